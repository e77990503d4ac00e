//! An evaluation under way: it tells how far it is, hears that it is to stop, and keeps what it has measured, a line for each
//! part, so that one that was stopped or killed goes on where it was.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use fs_err as fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use twin_domain::{CancelFlag, Digest, Progress, ProgressUpdate};

use super::EvaluateError;

/// A part that has been measured.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Which evaluation it is a part of.
    evaluation: Digest,
    part: String,
    found: serde_json::Value,
}

/// What is known of the parts, and where more goes.
struct Kept {
    evaluation: Digest,
    known: HashMap<String, serde_json::Value>,
    file: fs::File,
}

impl Kept {
    /// Reads what `path` has of this evaluation. What it has of another one goes.
    fn open(path: &Path, evaluation: &Digest) -> io::Result<Self> {
        let text = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        // A line that was being written as the process ended cannot be read, and its part is measured again.
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let own: Vec<Line> = lines.filter(|line| line.evaluation == *evaluation).collect();
        let mut whole = Vec::new();
        for line in &own {
            serde_json::to_writer(&mut whole, line)?;
            whole.push(b'\n');
        }
        if whole != text {
            crate::durable::write(path, &whole)?;
        }
        let file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        let known = own.into_iter().map(|line| (line.part, line.found)).collect();
        Ok(Self { evaluation: evaluation.clone(), known, file })
    }

    fn known<T: DeserializeOwned>(&self, part: &str) -> Option<T> {
        T::deserialize(self.known.get(part)?).ok()
    }

    fn keep(&mut self, part: &str, found: &impl Serialize) -> io::Result<()> {
        let found = serde_json::to_value(found)?;
        let line = Line { evaluation: self.evaluation.clone(), part: part.to_owned(), found };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)
    }
}

/// An evaluation under way.
pub(super) struct Course<'a> {
    progress: &'a dyn Progress,
    cancel: &'a CancelFlag,
    kept: Option<RefCell<Kept>>,
}

impl<'a> Course<'a> {
    /// Begins, or goes on with what `unfinished` has of the evaluation.
    pub(super) fn new(
        unfinished: Option<&Path>,
        evaluation: &Digest,
        progress: &'a dyn Progress,
        cancel: &'a CancelFlag,
    ) -> Result<Self, EvaluateError> {
        let kept = unfinished.map(|path| Kept::open(path, evaluation)).transpose().map_err(EvaluateError::Kept)?;
        Ok(Self { progress, cancel, kept: kept.map(RefCell::new) })
    }

    /// Tells how far it is.
    pub(super) fn tell(&self, what: &str, done: usize, total: usize) {
        let (done, total) = (done as u64, Some(total as u64));
        self.progress.update(ProgressUpdate { stage: "evaluating", done, total, unit: "texts", detail: what });
    }

    pub(super) fn cancel(&self) -> &CancelFlag {
        self.cancel
    }

    /// # Errors
    /// [`EvaluateError::Cancelled`] when it is to stop.
    pub(super) fn check(&self) -> Result<(), EvaluateError> {
        if self.cancel.is_cancelled() { Err(EvaluateError::Cancelled) } else { Ok(()) }
    }

    /// What is known of a part, or else what `measure` finds, which is known from then on. The name says all that the part
    /// depends on besides the configuration and the adapter.
    pub(super) fn part<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        measure: impl FnOnce() -> Result<T, EvaluateError>,
    ) -> Result<T, EvaluateError> {
        let Some(kept) = &self.kept else { return measure() };
        if let Some(known) = kept.borrow().known(name) {
            return Ok(known);
        }
        let found = measure()?;
        kept.borrow_mut().keep(name, &found).map_err(EvaluateError::Kept)?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use twin_domain::progress::Silent;

    use super::*;

    /// Asks for parts by name, one after another, and returns those that had to be measured.
    fn measured(path: &Path, evaluation: &str, parts: &[&str]) -> Vec<String> {
        let cancel = CancelFlag::new();
        let course = Course::new(Some(path), &Digest::of(evaluation), &Silent, &cancel).unwrap();
        let measured = RefCell::new(Vec::new());
        for part in parts {
            let found: String = course
                .part(part, || {
                    measured.borrow_mut().push((*part).to_owned());
                    Ok(format!("{evaluation} {part}\n"))
                })
                .unwrap();
            assert_eq!(found, format!("{evaluation} {part}\n"));
        }
        measured.into_inner()
    }

    #[test]
    fn an_evaluation_that_was_stopped_goes_on_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evaluation.jsonl");
        assert_eq!(measured(&path, "one", &["a", "b"]), ["a", "b"]);
        assert_eq!(measured(&path, "one", &["a", "b", "c"]), ["c"]);
        assert_eq!(measured(&path, "another", &["a"]), ["a"], "what another adapter wrote is not its own");
        assert_eq!(measured(&path, "one", &["a"]), ["a"], "only the last evaluation is kept");
    }

    #[test]
    fn killed_while_a_part_was_written_only_that_part_is_measured_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evaluation.jsonl");
        measured(&path, "one", &["a", "b"]);
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for end in first..whole.len() - 1 {
            fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(measured(&path, "one", &["a", "b", "c"]), ["b", "c"], "after {end} bytes");
            assert!(measured(&path, "one", &["a", "b", "c"]).is_empty(), "after {end} bytes");
        }
    }

    #[test]
    fn nothing_is_kept_where_no_place_is_named() {
        let cancel = CancelFlag::new();
        let course = Course::new(None, &Digest::of("one"), &Silent, &cancel).unwrap();
        assert_eq!(course.part("a", || Ok(1)).unwrap(), 1);
        assert_eq!(course.part("a", || Ok(2)).unwrap(), 2);
    }
}
