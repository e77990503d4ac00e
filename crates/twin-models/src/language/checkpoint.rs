//! Saving a training run between two steps, so that it can go on after a kill as if nothing had happened.
//!
//! One safetensors file holds the adapter, both moments of AdamW and, as metadata, what they were made with. It is no
//! adapter for other programs: that is what `Adapter::save` is for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::llama::Llama;
use super::lora::{Adapter, LoraConfigError};
use super::optimizer::AdamW;
use super::training::{Trainer, TrainerConfig};
use super::weights::to_f32;
use super::{LanguageModel, durable};

const FORMAT: &str = "twin-checkpoint-1";
const VALUES: &str = "values";
const FIRST_MOMENT: &str = "first_moment";
const SECOND_MOMENT: &str = "second_moment";

/// Why a checkpoint could not be saved or continued.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("gradients have been gathered since the last step: take the step before saving")]
    PendingGradients,
    #[error("could not write the checkpoint `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("could not read the checkpoint `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{path}` is not a valid checkpoint: start the training anew")]
    Damaged {
        path: PathBuf,
        #[source]
        source: SafeTensorError,
    },
    #[error("the checkpoint `{path}` is not one of this training: {reason}")]
    Mismatch { path: PathBuf, reason: String },
    #[error("the adapter cannot be made")]
    Lora(#[from] LoraConfigError),
}

impl Trainer {
    /// Saves the run. After a crash there is the old file or the new one.
    ///
    /// # Errors
    /// [`CheckpointError::PendingGradients`] in the middle of a step, or when the file cannot be written.
    pub fn save_checkpoint(&self, path: &Path) -> Result<(), CheckpointError> {
        if !self.is_between_steps() {
            return Err(CheckpointError::PendingGradients);
        }
        let optimizer = self.optimizer();
        let buffers = [
            (VALUES, self.adapter().values()),
            (FIRST_MOMENT, &optimizer.first_moment),
            (SECOND_MOMENT, &optimizer.second_moment),
        ];
        let bytes = buffers.map(|(name, values)| (name, to_bytes(values)));
        let damaged = |source| CheckpointError::Damaged { path: path.to_owned(), source };
        let views = bytes.iter().map(|(name, bytes)| {
            TensorView::new(Dtype::F32, vec![bytes.len() / size_of::<f32>()], bytes).map(|view| (*name, view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(damaged)?;
        let metadata = metadata(self.model(), self.config(), optimizer.step);
        let file = safetensors::serialize(views, Some(metadata)).map_err(damaged)?;
        durable::write(path, &file).map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
    }

    /// Goes on from a checkpoint, to the same last bit as without the interruption.
    ///
    /// # Errors
    /// When the file is damaged, or was made with another model or configuration.
    pub fn resume(model: Arc<Llama>, config: TrainerConfig, path: &Path) -> Result<Self, CheckpointError> {
        let bytes = std::fs::read(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
        let damaged = |source| CheckpointError::Damaged { path: path.to_owned(), source };
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let mismatch = |reason: String| CheckpointError::Mismatch { path: path.to_owned(), reason };
        if model.dense_weights().is_none() {
            return Err(mismatch("the model was loaded for answers only".to_owned()));
        }
        let found = header.metadata().clone().unwrap_or_default();
        let step = found.get("step").and_then(|step| step.parse().ok()).unwrap_or(0);
        for (key, expected) in metadata(&model, &config, step) {
            let found = found.get(&key).map_or("nothing", String::as_str);
            if found != expected {
                return Err(mismatch(format!("its `{key}` is {found}, this training's is {expected}")));
            }
        }
        let mut adapter = Adapter::zero(config.lora.clone(), model.sizes())?;
        let mut optimizer = AdamW::new(config.adamw, adapter.parameters());
        optimizer.step = step;
        let buffers = [
            (VALUES, adapter.values_mut()),
            (FIRST_MOMENT, optimizer.first_moment.as_mut_slice()),
            (SECOND_MOMENT, optimizer.second_moment.as_mut_slice()),
        ];
        for (name, into) in buffers {
            let view = file.tensor(name).map_err(damaged)?;
            let values = to_f32(view.dtype(), view.data()).filter(|values| values.len() == into.len());
            let values = values.ok_or_else(|| mismatch(format!("`{name}` has another size")))?;
            into.copy_from_slice(&values);
        }
        Ok(Self::from_parts(model, config, adapter, optimizer))
    }
}

/// What a run must share with its continuation. The limits of memory may change.
fn metadata(model: &Llama, config: &TrainerConfig, step: u64) -> HashMap<String, String> {
    let json = |value: serde_json::Result<String>| value.unwrap_or_else(|error| error.to_string());
    HashMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("base".to_owned(), model.info().digest.to_string()),
        ("lora".to_owned(), json(serde_json::to_string(&config.lora))),
        ("adamw".to_owned(), json(serde_json::to_string(&config.adamw))),
        ("seed".to_owned(), config.seed.to_string()),
        ("pack_tokens".to_owned(), config.pack_tokens.to_string()),
        ("step".to_owned(), step.to_string()),
    ])
}

/// Numbers as a safetensors file has them.
pub(crate) fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
