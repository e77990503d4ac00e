//! Answers of a given form, penalties for what was said, and notes of tokens.

use std::ops::ControlFlow;

use serde_json::{Value, json};
use twin_domain::{CancelFlag, ChatMessage};
use twin_models::language::{
    FinishReason, GenerateError, GenerateRequest, Generation, Input, LanguageModel, OutputFormat, Sampling, TokenWatch,
};

use crate::tiny;

fn answer(sampling: Sampling) -> Result<Generation, GenerateError> {
    let input = Input::Messages(vec![ChatMessage::user("hello")]);
    let request = GenerateRequest { input, adapter: None, sampling };
    tiny::model().generate(&request, &CancelFlag::new(), &mut |_| ControlFlow::Continue(()))
}

/// Random weights say anything, so whatever keeps the form does so because it must.
fn wild(seed: u64) -> Sampling {
    Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, min_p: 0.0, max_new_tokens: 200, seed, ..Sampling::default() }
}

fn formed(seed: u64, format: OutputFormat) -> Generation {
    answer(Sampling { format: Some(format), repetition_penalty: 1.0, ..wild(seed) }).unwrap()
}

#[test]
fn an_answer_keeps_to_its_schema() {
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["wood", "slots", "kinds", "sound"],
        "properties": {
            "wood": { "enum": ["oak", "beech"] }, "slots": { "type": "integer", "minimum": 0, "maximum": 9 },
            "kinds": { "type": "array", "items": { "$ref": "#/$defs/kind" }, "minItems": 1, "maxItems": 3 },
            "sound": { "type": ["boolean", "null"] },
        },
        "$defs": { "kind": { "const": "mallet" } },
    });
    for seed in 0..12 {
        let generation = formed(seed, OutputFormat::JsonSchema(schema.clone()));
        assert_eq!(generation.finish_reason, FinishReason::Stop, "{}", generation.text);
        let value: Value = serde_json::from_str(&generation.text).unwrap();
        assert!(["oak", "beech"].contains(&value["wood"].as_str().unwrap()));
        assert!(value["slots"].as_u64().unwrap() <= 9);
        assert!((1..=3).contains(&value["kinds"].as_array().unwrap().len()));
        assert!(value["sound"].is_boolean() || value["sound"].is_null());
        assert_eq!(value.as_object().unwrap().len(), 4);
    }
}

#[test]
fn an_object_is_one_when_the_limit_leaves_it_time() {
    let mut ended = 0;
    for seed in 0..12 {
        let generation = formed(seed, OutputFormat::JsonObject);
        assert!(generation.text.starts_with('{'), "{}", generation.text);
        if generation.finish_reason == FinishReason::Stop {
            assert!(serde_json::from_str::<Value>(&generation.text).unwrap().is_object());
            ended += 1;
        }
    }
    assert!(ended > 0, "all of them were cut off");
}

#[test]
fn a_form_that_cannot_be_kept_is_refused() {
    let refused = answer(Sampling {
        format: Some(OutputFormat::JsonSchema(json!({ "$ref": "https://elsewhere.example/schema.json" }))),
        ..wild(1)
    });
    assert!(matches!(refused, Err(GenerateError::Format { .. })));
}

#[test]
fn penalties_hold_what_was_said_down() {
    let different = |sampling: Sampling| {
        let watch = TokenWatch::new(0);
        let text = answer(Sampling { watch: Some(watch.clone()), repetition_penalty: 1.0, ..sampling }).unwrap().text;
        let notes = watch.take(text.len());
        let kinds: std::collections::HashSet<_> = notes.iter().map(|note| note.bytes.clone()).collect();
        kinds.len() as f64 / notes.len() as f64
    };
    let greedy = || Sampling::greedy(60);
    let plain = different(greedy());
    assert!(different(Sampling { presence_penalty: 2.0, ..greedy() }) > plain);
    assert!(different(Sampling { frequency_penalty: 2.0, ..greedy() }) > plain);
}

#[test]
fn notes_are_of_the_tokens_that_were_shown() {
    let watch = TokenWatch::new(3);
    let generation = answer(Sampling { watch: Some(watch.clone()), ..Sampling::greedy(40) }).unwrap();
    let plain = answer(Sampling::greedy(40)).unwrap();
    assert_eq!(generation.text, plain.text, "watching changes nothing");
    let notes = watch.take(generation.text.len());
    assert!(!notes.is_empty());
    for note in &notes {
        assert_eq!(note.top.len(), 3);
        assert!(note.likelihood <= 0.0 && note.top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        assert_eq!((&note.bytes, note.likelihood), (&note.top[0].0, note.top[0].1), "greedy takes the likeliest");
        assert!(note.top.iter().map(|(_, likelihood)| f64::from(*likelihood).exp()).sum::<f64>() <= 1.0 + 1e-4);
    }
}
