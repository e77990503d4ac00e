//! The files of a run: checkpoints, the best adapter so far, and the artefacts at the end.
//!
//! Each is a directory that is made beside and renamed into place, so what has the right name is complete. A checkpoint is
//! named by its step; the newest counts, and older ones go once it is there.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use twin_domain::BaseModel;
use twin_models::language::{Adapter, Llama, Trainer};

use super::{Progressed, RunError, RunReport};
use crate::curve::Curve;
use crate::durable;

pub(super) struct RunFiles {
    directory: PathBuf,
    hub: String,
}

impl RunFiles {
    pub(super) fn new(directory: &Path, base: &BaseModel) -> Self {
        Self { directory: directory.to_owned(), hub: base.hub.clone() }
    }

    /// The state of the newest checkpoint and the file with the trainer's own.
    pub(super) fn last_checkpoint(&self) -> Result<Option<(Progressed, PathBuf)>, RunError> {
        let Some(newest) = self.named("checkpoint-")?.pop() else { return Ok(None) };
        let path = newest.join("progress.json");
        let text = fs::read_to_string(&path).map_err(|source| self.failed(source))?;
        let state =
            serde_json::from_str(&text).map_err(|source| RunError::Checkpoint { path: newest.clone(), source })?;
        Ok(Some((state, newest.join("trainer.safetensors"))))
    }

    /// Keeps the adapter as it is after `step`.
    pub(super) fn keep_best(&self, step: usize, trainer: &Trainer) -> Result<(), RunError> {
        self.place(&format!("best-{step:08}"), |directory| {
            trainer.adapter().save(directory, &self.hub)?;
            Ok(())
        })
    }

    /// Writes a checkpoint, then removes what it makes superfluous.
    pub(super) fn checkpoint(&self, state: &Progressed, trainer: &Trainer) -> Result<(), RunError> {
        let name = format!("checkpoint-{:08}", state.step);
        self.place(&name, |directory| {
            trainer.save_checkpoint(&directory.join("trainer.safetensors"))?;
            self.write_json(&directory.join("progress.json"), state)
        })?;
        let best = state.curve.best().map_or(0, |best| best.step);
        self.remove_all_but("checkpoint-", &name)?;
        self.remove_all_but("best-", &format!("best-{best:08}"))
    }

    /// The adapter that was kept after `step`.
    pub(super) fn best(&self, step: usize, base: &Llama) -> Result<Adapter, RunError> {
        Ok(Adapter::load(&self.directory.join(format!("best-{step:08}")), base)?)
    }

    /// Makes the artefacts of a run that has ended: the best adapter, the report, the curve, and other `files` by name.
    pub(super) fn finish(
        &self,
        report: &RunReport,
        curve: &Curve,
        best: &Adapter,
        files: &[(&str, String)],
    ) -> Result<(), RunError> {
        let write =
            |path: &Path, text: &str| durable::write(path, text.as_bytes()).map_err(|source| self.failed(source));
        self.place("artefacts", |directory| {
            best.save(directory, &self.hub)?;
            files.iter().try_for_each(|(name, text)| write(&directory.join(name), text))?;
            self.write_json(&directory.join("training.json"), report)?;
            self.write_json(&directory.join("curve.json"), curve)?;
            write(&directory.join("curve.svg"), &curve.to_svg()?)
        })?;
        self.remove_all_but("checkpoint-", "")?;
        self.remove_all_but("best-", "")
    }

    fn place(&self, name: &str, fill: impl FnOnce(&Path) -> Result<(), RunError>) -> Result<(), RunError> {
        let beside = self.directory.join(format!("partial-{name}"));
        let _ = std::fs::remove_dir_all(&beside); // Left over from a process that was killed, if it is there at all.
        fs::create_dir(&beside).map_err(|source| self.failed(source))?;
        fill(&beside)?;
        let place = self.directory.join(name);
        let renamed = || -> io::Result<()> {
            if place.exists() {
                fs::remove_dir_all(&place)?;
            }
            durable::sync_directory(&beside)?;
            fs::rename(&beside, &place)?;
            durable::sync_directory(&self.directory)
        };
        renamed().map_err(|source| self.failed(source))
    }

    fn write_json(&self, path: &Path, value: &impl serde::Serialize) -> Result<(), RunError> {
        let json = serde_json::to_vec_pretty(value).map_err(io::Error::other).map_err(|source| self.failed(source))?;
        durable::write(path, &json).map_err(|source| self.failed(source))
    }

    /// The directories whose names begin with `prefix`, in order.
    fn named(&self, prefix: &str) -> Result<Vec<PathBuf>, RunError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(|source| self.failed(source))? {
            let entry = entry.map_err(|source| self.failed(source))?;
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    fn remove_all_but(&self, prefix: &str, keep: &str) -> Result<(), RunError> {
        for path in self.named(prefix)? {
            if path.file_name().is_none_or(|name| name != keep) {
                fs::remove_dir_all(&path).map_err(|source| self.failed(source))?;
            }
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> RunError {
        RunError::Io { path: self.directory.clone(), source }
    }
}
