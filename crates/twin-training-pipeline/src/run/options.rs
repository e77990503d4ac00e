//! How hard a run tries: presets by the size of the corpus, each value of which can be set.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use twin_models::language::Projection;

use super::TrainingConfig;

/// How much is tried. Time grows with the steps, what can be learnt with the rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// A few minutes: a small adapter, a pass or two. What little text has to give is learnt by then.
    Quick,
    /// About half an hour on two cores.
    Balanced,
    /// For large corpora, which have more to give: a larger adapter and more steps.
    Thorough,
}

/// Below this many tokens of the author's a corpus has little to give.
const SMALL: usize = 30_000;
/// From this many on it has more to give than a balanced run takes.
const LARGE: usize = 600_000;

impl Preset {
    /// The preset for a corpus of so many tokens of the author's to train on.
    pub fn for_corpus(tokens: usize) -> Self {
        match tokens {
            0..SMALL => Self::Quick,
            SMALL..LARGE => Self::Balanced,
            _ => Self::Thorough,
        }
    }

    /// Its values.
    pub fn config(self) -> TrainingConfig {
        let balanced = TrainingConfig::default();
        match self {
            Self::Quick => TrainingConfig { rank: 8, alpha: 16.0, epochs: 2.0, max_steps: 64, patience: 2, ..balanced },
            Self::Balanced => balanced,
            Self::Thorough => TrainingConfig {
                rank: 32,
                alpha: 64.0,
                learning_rate: 7e-4,
                epochs: 4.0,
                max_steps: 1200,
                validate_every: 20,
                validation_tokens: 4096,
                patience: 5,
                ..balanced
            },
        }
    }
}

/// What of a configuration is said; the rest is the preset's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingOptions {
    /// By the size of the corpus when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "finite")]
    pub alpha: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "finite")]
    pub dropout: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_modules: Option<Vec<Projection>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "finite")]
    pub learning_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "finite")]
    pub warmup: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "finite")]
    pub weight_decay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "finite")]
    pub clip_norm: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sequence_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "finite")]
    pub epochs: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_every: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Why an option is refused.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("`{0}` is no setting: write a name and a value, as in `batch_tokens=2048`")]
    NoPair(String),
    #[error("`{text}` is no setting of training")]
    Unknown {
        text: String,
        #[source]
        source: serde_json::Error,
    },
}

impl TrainingOptions {
    /// These options, where `over` says nothing else.
    #[must_use]
    pub fn overlaid(&self, over: &Self) -> Self {
        let fields = [self, over].map(fields).into_iter().flatten().collect();
        // Both come from this type, so what they are joined to is one again.
        serde_json::from_value(Value::Object(fields)).unwrap_or_else(|_| over.clone())
    }

    /// These options with one more, as in `batch_tokens=2048`.
    ///
    /// # Errors
    /// When there is no such setting, or it takes no such value.
    pub fn with(&self, pair: &str) -> Result<Self, OptionsError> {
        let (name, value) = pair.split_once('=').ok_or_else(|| OptionsError::NoPair(pair.to_owned()))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        let mut fields = fields(self);
        fields.insert(name.trim().to_owned(), value);
        let unknown = |source| OptionsError::Unknown { text: pair.to_owned(), source };
        serde_json::from_value(Value::Object(fields)).map_err(unknown)
    }

    /// The configuration: the preset, or the one for a corpus of so many tokens, with what is said.
    pub fn config(&self, corpus_tokens: usize) -> TrainingConfig {
        let preset = self.preset.unwrap_or_else(|| Preset::for_corpus(corpus_tokens)).config();
        let mut said = fields(self);
        said.remove("preset");
        let mut all = match serde_json::to_value(&preset) {
            Ok(Value::Object(fields)) => fields,
            _ => return preset,
        };
        // A rank without a scale keeps the preset's scale `alpha / rank`, so that the rank can change alone.
        if let (Some(rank), None) = (self.rank, self.alpha) {
            said.insert("alpha".to_owned(), (preset.alpha * rank as f32 / preset.rank as f32).into());
        }
        all.extend(said);
        serde_json::from_value(Value::Object(all)).unwrap_or(preset)
    }
}

/// TOML has numbers that are none, which JSON, by which options are joined, would pass over.
fn finite<'de, D: Deserializer<'de>, T: Deserialize<'de> + Copy + Into<f64>>(from: D) -> Result<Option<T>, D::Error> {
    let number = Option::<T>::deserialize(from)?;
    match number {
        Some(value) if !value.into().is_finite() => Err(D::Error::custom("this must be a finite number")),
        _ => Ok(number),
    }
}

fn fields(options: &TrainingOptions) -> Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preset_grows_with_the_corpus_and_each_value_can_be_set() {
        let presets = [1_000, 100_000, 10_000_000].map(Preset::for_corpus);
        assert_eq!(presets, [Preset::Quick, Preset::Balanced, Preset::Thorough]);
        assert_eq!(TrainingOptions::default().config(100_000), TrainingConfig::default());
        let options = TrainingOptions { max_steps: Some(7), ..TrainingOptions::default() };
        let options = options.overlaid(&TrainingOptions::default().with("dropout=0.25").unwrap());
        let expected = TrainingConfig { max_steps: 7, dropout: 0.25, ..Preset::Quick.config() };
        assert_eq!(options.config(10), expected);
    }

    #[test]
    fn every_setting_of_a_configuration_is_an_option() {
        let Ok(Value::Object(all)) = serde_json::to_value(TrainingConfig::default()) else { panic!() };
        for (name, value) in all {
            let options = TrainingOptions::default().with(&format!("{name}={value}"));
            assert!(options.is_ok(), "{name}: {options:?}");
        }
        assert_eq!(TrainingOptions::default().with("preset=thorough").unwrap().preset, Some(Preset::Thorough));
    }

    #[test]
    fn a_rank_alone_keeps_the_scale() {
        let config = TrainingOptions { rank: Some(4), ..TrainingOptions::default() }.config(100_000);
        assert_eq!((config.rank, config.alpha), (4, 8.0));
    }

    #[test]
    fn what_is_no_setting_is_named() {
        for wrong in ["ranks=3", "rank=many", "rank", "epochs=nan"] {
            let error = TrainingOptions::default().with(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        assert!(toml::from_str::<TrainingOptions>("learning_rate = 0.01").is_ok());
        assert!(toml::from_str::<TrainingOptions>("learning_rate = nan").is_err());
    }
}
