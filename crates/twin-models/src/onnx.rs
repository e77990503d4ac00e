//! ONNX Runtime, a shared library that is found and loaded at run time, once for the whole process.
//!
//! A library that the user names is used or is an error. Otherwise the one in the cache, whose digest is known, comes before
//! whatever the system has.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

/// Why there is no ONNX Runtime.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    #[error("the ONNX Runtime library {} cannot be used: it must be version 1.{minimum} or newer", path.display(), minimum = ort::MINOR_VERSION)]
    Unusable {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "no usable ONNX Runtime library was found{}: run `twin models pull onnxruntime`, or set ORT_DYLIB_PATH to one",
        tried(attempts)
    )]
    NotFound { attempts: Vec<OnnxError> },
    #[error("ONNX Runtime did not start")]
    Start {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn tried(attempts: &[OnnxError]) -> String {
    let reasons: Vec<_> = attempts.iter().filter_map(std::error::Error::source).map(ToString::to_string).collect();
    if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) }
}

static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Whether the library is loaded already, in which case none has to be found.
pub fn is_loaded() -> bool {
    ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Loads the library: the one at `named` if there is such a path, else `cached`, else the system's. Only the first call
/// loads; later ones give the same environment whatever they name.
///
/// # Errors
/// [`OnnxError::Unusable`] when the named library cannot be used, [`OnnxError::NotFound`] when no other can either.
pub(crate) fn load(named: Option<&Path>, cached: Option<&Path>) -> Result<Environment, OnnxError> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*environment {
        return Ok(environment.clone());
    }
    let loaded = match named {
        Some(path) => load_from(path)?,
        None => load_first(cached.map(Path::to_owned).into_iter().chain(system_libraries()))?,
    };
    *environment = Some(loaded.clone());
    Ok(loaded)
}

fn load_first(candidates: impl IntoIterator<Item = PathBuf>) -> Result<Environment, OnnxError> {
    let mut attempts = Vec::new();
    for path in candidates {
        match load_from(&path) {
            Ok(environment) => return Ok(environment),
            Err(OnnxError::Start { source }) => return Err(OnnxError::Start { source }),
            // A bare name that the loader does not know is not worth telling.
            Err(_) if path.is_relative() => {}
            Err(error) => attempts.push(error),
        }
    }
    Err(OnnxError::NotFound { attempts })
}

fn load_from(path: &Path) -> Result<Environment, OnnxError> {
    // Loading the wrong thing may panic inside: not every library with the right symbol is ONNX Runtime.
    let builder = std::panic::catch_unwind(|| ort::init_from(path))
        .map_err(|_| OnnxError::Unusable {
            path: path.to_owned(),
            source: "loading it failed inside (a panic)".into(),
        })?
        .map_err(|source| OnnxError::Unusable { path: path.to_owned(), source: Box::new(source) })?;
    tracing::debug!(path = %path.display(), "ONNX Runtime is loaded");
    // Microsoft's Windows builds send telemetry unless told not to.
    let environment = builder.with_name("twin").with_telemetry(false).build();
    environment.map_err(|source| OnnxError::Start { source: Box::new(source) })
}

/// Libraries in the usual directories, newest first, then the names by which the dynamic loader may know one.
fn system_libraries() -> Vec<PathBuf> {
    let (directories, stem, names): (&[&str], &str, &[&str]) = if cfg!(target_os = "macos") {
        (&["/opt/homebrew/lib", "/usr/local/lib"], "libonnxruntime.", &["libonnxruntime.dylib"])
    } else if cfg!(windows) {
        // Only the loader's own search: Windows has an old onnxruntime.dll in System32, which loading turns down.
        (&[], "onnxruntime.", &["onnxruntime.dll"])
    } else {
        let directories: &[&str] = if cfg!(target_arch = "x86_64") {
            &["/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/opt/onnxruntime/lib"]
        } else {
            &["/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/aarch64-linux-gnu", "/opt/onnxruntime/lib"]
        };
        (directories, "libonnxruntime.so", &["libonnxruntime.so", "libonnxruntime.so.1"])
    };
    let mut libraries: Vec<_> = directories.iter().flat_map(|directory| libraries_in(directory, stem)).collect();
    libraries.extend(names.iter().map(PathBuf::from));
    libraries
}

fn libraries_in(directory: &str, stem: &str) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(directory) else { return Vec::new() };
    let is_library = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
            let library = name.starts_with(stem);
            library && (name.contains(".so") || name.ends_with(".dylib"))
        })
    };
    let mut found: Vec<_> = listing.flatten().map(|item| item.path()).filter(is_library).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_library_that_is_none_is_named_in_the_error() {
        let error = load_from(Path::new("/nonexistent/libonnxruntime.so")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/libonnxruntime.so"), "{error}");
    }

    #[test]
    fn without_any_library_the_error_says_what_to_do() {
        let error = load_first([PathBuf::from("/nonexistent/a.so")]).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/a.so") && error.contains("twin models pull onnxruntime"), "{error}");
    }
}
