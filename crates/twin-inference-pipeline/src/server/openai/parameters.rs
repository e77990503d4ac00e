//! What chat completions and completions have in common: the model, how tokens are drawn, and how the reply comes.

use serde::Deserialize;
use serde_json::Value;
use twin_models::language::Sampling;
use utoipa::ToSchema;

use super::ApiError;

/// The longest stop text, in bytes. Text is held back while it may be the beginning of one.
const MAX_STOP_BYTES: usize = 1_000;
/// The longest name of a user, in bytes.
const MAX_USER_BYTES: usize = 512;

/// Unknown fields are left alone, as OpenAI's own server does.
#[derive(Deserialize, ToSchema)]
pub(super) struct Parameters {
    /// An author (`ada`), a release (`ada@release-3`) or a version (`ada@v2`).
    pub(super) model: String,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[schema(minimum = 1)]
    max_tokens: Option<usize>,
    #[schema(minimum = 1)]
    max_completion_tokens: Option<usize>,
    /// From 0 to 2.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f32>,
    /// Above 0, at most 1.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f32>,
    /// From 0 to 1: only tokens at least this many times as likely as the likeliest.
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f32>,
    /// From -2 to 2.
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f32>,
    /// From -2 to 2.
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<Stop>,
    /// One answer at a time is written.
    #[schema(minimum = 1, maximum = 1)]
    n: Option<u32>,
    logit_bias: Option<Value>,
    /// Whose request it is; where traffic is split, a user stays with a release.
    #[schema(max_length = 512)]
    user: Option<String>,
}

#[derive(Deserialize, ToSchema)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

impl Parameters {
    pub(super) fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// What a conversation is known by when traffic is split: its user where one is named, since these clients send the whole
    /// conversation each time; otherwise how it began.
    pub(super) fn conversation(&self, beginning: String) -> String {
        self.user.clone().unwrap_or(beginning)
    }

    /// Replaces what the request says in `default`. What the numbers must be is checked later, but for what differs from
    /// this program's own limits.
    ///
    /// # Errors
    /// What cannot be honoured, by name.
    pub(super) fn sampling(&self, default: Sampling) -> Result<Sampling, ApiError> {
        refuse(&[
            ("n", self.n.is_some_and(|n| n != 1), "only one answer at a time is written"),
            ("logit_bias", is_given(&self.logit_bias), "single tokens are not weighed"),
        ])?;
        if self.user.as_ref().is_some_and(|user| user.len() > MAX_USER_BYTES) {
            return Err(ApiError::bad_request(format!("`user` is longer than {MAX_USER_BYTES} bytes")).param("user"));
        }
        if let Some(temperature) = self.temperature.filter(|t| !(0.0..=2.0).contains(t)) {
            let message = format!("`temperature` is {temperature}, and must be from 0 to 2");
            return Err(ApiError::bad_request(message).param("temperature"));
        }
        Ok(Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            // Seeds may be negative there.
            seed: self.seed.map_or(default.seed, i64::cast_unsigned),
            max_new_tokens: self.max_completion_tokens.or(self.max_tokens).unwrap_or(default.max_new_tokens),
            stop: self.stops()?,
            ..default
        })
    }

    fn stops(&self) -> Result<Vec<String>, ApiError> {
        let stops = match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Several(stops)) => stops.clone(),
        };
        if stops.len() > 4 || stops.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
            let message = format!("`stop` must be at most 4 texts of at most {MAX_STOP_BYTES} bytes each");
            return Err(ApiError::bad_request(message).param("stop"));
        }
        Ok(stops)
    }
}

/// Names the first parameter that is asked for and cannot be honoured.
pub(super) fn refuse(cannot: &[(&str, bool, &str)]) -> Result<(), ApiError> {
    match cannot.iter().find(|(_, asked, _)| *asked) {
        Some((param, _, why)) => Err(ApiError::bad_request(format!("`{param}` is not supported: {why}")).param(param)),
        None => Ok(()),
    }
}

/// Whether a value asks for something: clients send null, empty lists and `none` for nothing.
pub(super) fn is_given(value: &Option<Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => text != "none",
        Some(Value::Array(values)) => !values.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) => true,
    }
}
