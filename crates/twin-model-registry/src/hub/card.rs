//! The model card of a pushed version: what the Hub reads in it, then what people read.
//!
//! The metadata are those of the Hub's documentation (`model-cards`): base model, library, licence, data sets, and
//! `model-index` with our figures.

use std::fmt::Write as _;

use serde_json::{Value, json};
use twin_domain::ModelVersion;

/// The figures that a card names: metric, its type for the Hub, and what it is in words.
const FIGURES: [(&str, &str, &str); 4] = [
    ("bits_per_byte.author.twin", "bits_per_byte", "Bits per byte on held-out posts of the author, with the adapter"),
    ("bits_per_byte.author.base", "bits_per_byte", "The same without the adapter"),
    ("bits_per_byte.author.gain", "bits_per_byte_gain", "Bits per byte that the adapter saves"),
    ("bits_per_byte.others.gain", "bits_per_byte_gain", "The same on other authors' posts"),
];

/// The card. The same version and settings always give the same one, so that pushing again changes nothing.
pub(super) fn card(
    version: &ModelVersion,
    repository: &str,
    license: &str,
    dataset: Option<&str>,
    own: &str,
) -> String {
    // JSON texts are YAML texts: names come from people and cannot break out of their place.
    let quoted = |text: &str| Value::from(text).to_string();
    let mut card = String::from("---\n");
    let mut line = |name: &str, value: String| card.push_str(&format!("{name}: {value}\n"));
    line("base_model", quoted(&version.base.hub));
    line("base_model_relation", "adapter".to_owned());
    line("library_name", "peft".to_owned());
    line("pipeline_tag", "text-generation".to_owned());
    line("license", quoted(license));
    if let Some(dataset) = dataset {
        line("datasets", json!([dataset]).to_string());
    }
    if let Some(language) = language(own) {
        line("language", language);
    }
    line("tags", json!(["lora", "llm-twin"]).to_string());
    line("model-index", json!([{ "name": repository, "results": results(version) }]).to_string());
    card.push_str("---\n");
    card.push_str(&body(own, version));
    let _ = write!(
        card,
        "\n## Use\n\n```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n\
         base = AutoModelForCausalLM.from_pretrained({})\nmodel = PeftModel.from_pretrained(base, {}, revision=\"v{}\")\n```\n",
        quoted(&version.base.hub),
        quoted(repository),
        version.id.number,
    );
    card
}

fn results(version: &ModelVersion) -> Value {
    let metric = |(name, kind, words): &(&str, &str, &str)| {
        let value = version.metrics.get(*name)?;
        let mut metric = json!({ "type": kind, "name": words, "value": value });
        let bound = |end: &str| version.metrics.get(&format!("{name}.{end}")).copied();
        if let (Some(low), Some(high)) = (bound("low"), bound("high")) {
            metric["args"] = json!({ "confidence_interval_95": [low, high] });
        }
        Some(metric)
    };
    let metrics: Vec<Value> = FIGURES.iter().filter_map(metric).collect();
    if metrics.is_empty() {
        return json!([]);
    }
    json!([{
        "task": { "type": "text-generation" },
        "dataset": { "type": "custom", "name": format!("{}, held-out posts", version.training_set) },
        "metrics": metrics,
    }])
}

/// The registered card without its metadata; a short one for a version that has none.
fn body(own: &str, version: &ModelVersion) -> String {
    match parts(own) {
        Some((_, body)) => body.to_owned(),
        None if !own.trim().is_empty() => format!("\n{own}"),
        None => {
            format!("\n# {}\n\nAn adapter in an author's voice. What it writes is written by a machine.\n", version.id)
        }
    }
}

/// What the registered card says of the language.
fn language(own: &str) -> Option<String> {
    let (metadata, _) = parts(own)?;
    let value = metadata.lines().find_map(|line| line.strip_prefix("language: "))?;
    // Only what is one JSON text or a plain word may stand in the new card.
    let is_text = serde_json::from_str::<Value>(value).is_ok_and(|value| value.is_string());
    let is_word = value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    (is_text || is_word).then(|| value.to_owned())
}

/// Metadata and text of a card.
fn parts(card: &str) -> Option<(&str, &str)> {
    let (metadata, body) = card.strip_prefix("---\n")?.split_once("\n---\n")?;
    Some((metadata, body))
}
