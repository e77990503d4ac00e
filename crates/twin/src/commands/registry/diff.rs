//! What differs between two model versions.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use twin_domain::{Digest, ModelRegistry, ModelVersion, ModelVersionId};

use crate::output;
use crate::wiring::Wiring;

/// A thing of which the two versions have different values.
#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    what: String,
    /// `None` where the version has no such thing.
    first: Option<String>,
    second: Option<String>,
    /// Of numbers: the second less the first.
    change: Option<f64>,
}

pub fn run(wiring: &Wiring, first: &ModelVersionId, second: &ModelVersionId) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let differences = differences(&registry.version(first)?, &registry.version(second)?);
    output::result(wiring.json, &differences, |differences| {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let rows = differences.iter().map(|difference| {
            let change = difference.change.map_or_else(String::new, |change| format!("{change:+.4}"));
            vec![difference.what.clone(), shown(&difference.first), shown(&difference.second), change]
        });
        output::table(&["", &first.to_string(), &second.to_string(), "change"], rows);
        if differences.is_empty() {
            output::line("they differ in nothing but their numbers and the time");
        }
    })?;
    Ok(true)
}

/// Everything that differs, by name: lineage, settings, metrics, files.
fn differences(first: &ModelVersion, second: &ModelVersion) -> Vec<Difference> {
    let (first, second) = (facts(first), facts(second));
    let names: BTreeSet<&(usize, String)> = first.keys().chain(second.keys()).collect();
    let differs = |name: &&(usize, String)| first.get(*name) != second.get(*name);
    let difference = |name: &(usize, String)| {
        let value = |facts: &BTreeMap<(usize, String), Value>| facts.get(name).cloned();
        let (one, other) = (value(&first), value(&second));
        let number = |value: &Option<Value>| value.as_ref().and_then(Value::as_f64);
        let change = number(&one).zip(number(&other)).map(|(one, other)| other - one);
        Difference { what: name.1.clone(), first: one.map(text), second: other.map(text), change }
    };
    names.into_iter().filter(differs).map(difference).collect()
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        value => value.to_string(),
    }
}

/// Everything that is known of a version, one value a name; sorted by group and name.
fn facts(version: &ModelVersion) -> BTreeMap<(usize, String), Value> {
    let lineage = [
        ("base", format!("{} {}", version.base.name, version.base.digest.short())),
        ("training set", version.training_set.to_string()),
        ("features", version.feature_view.to_string()),
        ("prompt", version.prompt.to_string()),
        ("program", version.code.clone()),
    ];
    let mut facts: BTreeMap<(usize, String), Value> =
        lineage.into_iter().map(|(name, value)| ((0, name.to_owned()), Value::from(value))).collect();
    facts.extend(version.environment.iter().map(|(name, value)| ((1, name.clone()), Value::from(value.as_str()))));
    flatten("", &version.hyper_parameters, &mut |name, value| drop(facts.insert((2, name), value)));
    facts.extend(version.metrics.iter().map(|(name, value)| ((3, name.clone()), Value::from(*value))));
    let short = |digest: &Digest| Value::from(digest.short());
    facts.extend(version.files.iter().map(|(name, digest)| ((4, name.clone()), short(digest))));
    facts
}

/// The leaves of a JSON value, named by their paths.
fn flatten(path: &str, value: &Value, each: &mut impl FnMut(String, Value)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, each);
            }
        }
        value => each(path.to_owned(), value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_metrics_and_files_are_compared_by_name() {
        let version = |seed: u64, bits: f64, extra: bool| -> ModelVersion {
            let mut metrics = serde_json::json!({ "bits": bits, "same": 1.0 });
            if extra {
                metrics["new"] = Value::from(2.0);
            }
            serde_json::from_value(serde_json::json!({
                "id": "ada@v1", "content": Digest::of("c"), "base": { "name": "b", "hub": "h/b", "digest": Digest::of("b") },
                "training_set": "set-0123456789ab", "feature_view": "features-0123456789ab", "prompt": "p",
                "hyper_parameters": { "seed": seed, "optimizer": { "beta": 0.9 } }, "metrics": metrics,
                "files": {}, "code": "0.1.0", "created_at": "2026-01-01T00:00:00Z",
            }))
            .unwrap()
        };
        let found = differences(&version(1, 1.5, false), &version(2, 1.25, true));
        let of = |what: &str| found.iter().find(|difference| difference.what == what).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(of("bits").change, Some(-0.25));
        assert_eq!((of("seed").first.as_deref(), of("seed").second.as_deref()), (Some("1"), Some("2")));
        assert_eq!((of("new").first.as_deref(), of("new").second.as_deref()), (None, Some("2.0")));
        assert!(differences(&version(1, 1.5, false), &version(1, 1.5, false)).is_empty());
    }
}
