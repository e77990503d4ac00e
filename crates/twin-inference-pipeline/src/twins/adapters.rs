//! The adapters that are kept ready over the one base model: the least recently used goes first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use twin_domain::ModelVersionId;
use twin_models::language::Adapter;

/// Adapters in memory. Versions are immutable, so what was loaded stays right. An answer that is being written holds its own
/// adapter, so one that goes here goes from memory when the last such answer ends.
pub(super) struct Adapters {
    most: usize,
    /// The least recently used first.
    ready: Mutex<Vec<(ModelVersionId, Arc<Adapter>)>>,
    /// Held while one is loaded, so that requests that come together load it once.
    loading: Mutex<()>,
}

impl Adapters {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), ready: Mutex::default(), loading: Mutex::default() }
    }

    /// The adapter of a version, loaded by `load` if it is not ready. Blocking.
    pub(super) fn get<E>(
        &self,
        model: &ModelVersionId,
        load: impl FnOnce() -> Result<Adapter, E>,
    ) -> Result<Arc<Adapter>, E> {
        if let Some(adapter) = self.ready(model) {
            return Ok(adapter);
        }
        let _one_at_a_time = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(adapter) = self.ready(model) {
            return Ok(adapter);
        }
        let adapter = Arc::new(load()?);
        let mut ready = self.lock();
        while ready.len() >= self.most {
            ready.remove(0);
        }
        ready.push((model.clone(), Arc::clone(&adapter)));
        Ok(adapter)
    }

    /// An adapter that is in memory, which counts as a use.
    fn ready(&self, model: &ModelVersionId) -> Option<Arc<Adapter>> {
        let mut ready = self.lock();
        let place = ready.iter().position(|(known, _)| known == model)?;
        let used = ready.remove(place);
        let adapter = Arc::clone(&used.1);
        ready.push(used);
        Some(adapter)
    }

    /// The versions that are in memory, the least recently used first.
    pub(super) fn models(&self) -> Vec<ModelVersionId> {
        self.lock().iter().map(|(model, _)| model.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(ModelVersionId, Arc<Adapter>)>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use twin_models::language::{AdapterError, LanguageModel, ScriptedModel};

    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_nothing_is_loaded_twice() {
        let model = ScriptedModel::new(vec![]);
        let adapters = Adapters::new(2);
        let loads = Cell::new(0);
        let get = |version: &str| {
            let load = || -> Result<Adapter, AdapterError> {
                loads.set(loads.get() + 1);
                model.load_adapter(&std::env::temp_dir())
            };
            adapters.get(&version.parse().unwrap(), load).unwrap()
        };
        get("ada@v1");
        let second = get("ada@v2");
        get("ada@v1");
        get("ada@v3");
        assert_eq!(adapters.models().iter().map(|model| model.number).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(Arc::strong_count(&second), 1, "only this test still holds it");
        get("ada@v1");
        assert_eq!(loads.get(), 3);
    }
}
