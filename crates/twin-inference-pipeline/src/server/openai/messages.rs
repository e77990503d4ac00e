//! The messages of a request: from OpenAI's form to a question and what came before it.

use serde::Deserialize;
use twin_domain::{ChatMessage, Role};
use utoipa::ToSchema;

use super::ApiError;

/// A message as clients send it.
#[derive(Deserialize, ToSchema)]
pub(super) struct Message {
    /// `system`, `developer`, `user` or `assistant`.
    #[schema(pattern = "^(system|developer|user|assistant)$")]
    role: String,
    content: Option<Content>,
}

/// Plain text, or parts of which only text is understood.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize, ToSchema)]
struct Part {
    #[serde(rename = "type")]
    #[schema(pattern = "^text$")]
    kind: String,
    text: Option<String>,
}

/// A request's messages, sorted out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conversation {
    /// The last message, which must be the user's.
    pub question: String,
    pub history: Vec<ChatMessage>,
    /// All system messages, joined.
    pub instructions: Option<String>,
}

impl Conversation {
    pub(super) fn of(messages: &[Message]) -> Result<Self, ApiError> {
        let refused = |message: String| ApiError::bad_request(message).param("messages");
        let mut history = Vec::new();
        let mut instructions = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let text = message.text().map_err(|kind| {
                refused(format!("message {index} has a part of type `{kind}`, and a twin reads only text"))
            })?;
            match message.role.as_str() {
                "system" | "developer" => instructions.push(text),
                "user" => history.push(ChatMessage::user(text)),
                "assistant" => history.push(ChatMessage::assistant(text)),
                other => {
                    return Err(refused(format!("message {index} has the role `{other}`, which a twin does not know")));
                }
            }
        }
        match history.pop() {
            Some(ChatMessage { role: Role::User, content }) if !content.trim().is_empty() => {
                let instructions = (!instructions.is_empty()).then(|| instructions.join("\n"));
                Ok(Self { question: content, history, instructions })
            }
            _ => Err(refused("the last message must be the user's and have text".to_owned())),
        }
    }
}

impl Message {
    /// The text, or the type of a part that is none.
    fn text(&self) -> Result<String, String> {
        match &self.content {
            None => Ok(String::new()),
            Some(Content::Text(text)) => Ok(text.clone()),
            Some(Content::Parts(parts)) => {
                let texts = parts.iter().map(|part| match (part.kind.as_str(), &part.text) {
                    ("text", Some(text)) => Ok(text.as_str()),
                    (kind, _) => Err(kind.to_owned()),
                });
                Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(json: serde_json::Value) -> Result<Conversation, ApiError> {
        Conversation::of(&serde_json::from_value::<Vec<Message>>(json).unwrap())
    }

    #[test]
    fn messages_are_sorted_out() {
        let sorted = conversation(serde_json::json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": [{"type": "text", "text": "What"}, {"type": "text", "text": "is oakum?"}]},
        ]));
        let sorted = sorted.unwrap();
        assert_eq!(sorted.question, "What\nis oakum?");
        assert_eq!(sorted.history, [ChatMessage::user("Hi"), ChatMessage::assistant("Hello.")]);
        assert_eq!(sorted.instructions.as_deref(), Some("Be brief."));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in [
            serde_json::json!([]),
            serde_json::json!([{"role": "assistant", "content": "Hello."}]),
            serde_json::json!([{"role": "user", "content": " "}]),
            serde_json::json!([{"role": "tool", "content": "x"}]),
            serde_json::json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        ] {
            assert!(conversation(bad.clone()).is_err(), "{bad}");
        }
    }
}
