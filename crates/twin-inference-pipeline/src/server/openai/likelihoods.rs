//! How likely tokens were, in the two forms that OpenAI's API has for it.

use serde_json::{Value, json};
use twin_models::language::TokenNote;

/// What stands for the logarithm of no probability at all, which JSON cannot write.
const IMPOSSIBLE: f32 = -9999.0;

/// `logprobs` of a chat completion, or of a part of one.
pub(super) fn of_chat(notes: &[TokenNote]) -> Value {
    let entry = |bytes: &[u8], likelihood: f32| json!({ "token": text(bytes), "logprob": likelihood.max(IMPOSSIBLE), "bytes": bytes });
    let token = |note: &TokenNote| {
        let mut token = entry(&note.bytes, note.likelihood);
        token["top_logprobs"] = note.top.iter().map(|(bytes, likelihood)| entry(bytes, *likelihood)).collect();
        token
    };
    json!({ "content": notes.iter().map(token).collect::<Vec<_>>(), "refusal": null })
}

/// `logprobs` of a completion, or of a part of one that begins after so many characters.
pub(super) fn of_text(notes: &[TokenNote], begin: usize) -> Value {
    let mut offset = begin;
    let mut offsets = Vec::with_capacity(notes.len());
    for note in notes {
        offsets.push(offset);
        offset += text(&note.bytes).chars().count();
    }
    let top = |note: &TokenNote| -> Value {
        note.top.iter().map(|(bytes, likelihood)| (text(bytes), json!(likelihood.max(IMPOSSIBLE)))).collect()
    };
    json!({
        "tokens": notes.iter().map(|note| text(&note.bytes)).collect::<Vec<_>>(),
        "token_logprobs": notes.iter().map(|note| note.likelihood.max(IMPOSSIBLE)).collect::<Vec<_>>(),
        "top_logprobs": notes.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
