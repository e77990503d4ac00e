//! Which release answers whom: the pointer is read anew for every conversation, and what it points to is loaded before the
//! first one asks.

use std::sync::Arc;
use std::time::Duration;

use twin_domain::{AuthorId, ModelVersionId, RegistryError, Release, Traffic};

use super::{Twin, TwinError, Twins};

/// How often the pointer is looked at while nobody asks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Twins {
    /// The twin that goes with a conversation. One that began with a release goes on with it, unless a rollback took that
    /// release away or it is gone; others go where their hash puts them. Blocking: it may load an adapter.
    ///
    /// # Errors
    /// [`TwinError::Unknown`] when there is no such author or version.
    pub fn twin_for(&self, name: &str, conversation: &str, began_with: Option<u32>) -> Result<Twin, TwinError> {
        let Ok(author) = AuthorId::parse(name) else { return self.twin(name) };
        let Some(traffic) = self.parts.registry.traffic(&author)? else { return self.twin(name) };
        if let Some(release) = began_with.filter(|release| traffic.keeps(*release)) {
            match self.twin_of(name, Some(release)) {
                Err(TwinError::Registry(RegistryError::NotFound { .. }) | TwinError::Unknown(_)) => {}
                twin => return twin,
            }
        }
        self.twin_of(name, Some(traffic.release_for(&author, conversation)))
    }

    /// The release that answers unseen beside the one that is seen, if there is one and it is another.
    pub(crate) fn shadow_of(&self, author: &AuthorId, seen: Option<u32>) -> Option<u32> {
        let traffic = self.parts.registry.traffic(author).ok().flatten()?;
        traffic.shadow.filter(|shadow| Some(*shadow) != seen)
    }

    /// Loads what answers, or may soon, so that nobody waits for it. What cannot be loaded is told when it is asked for. Blocking.
    pub fn prepare_releases(&self) {
        if !self.parts.model.takes_adapters() {
            return;
        }
        let authors = self.parts.registry.authors().unwrap_or_default();
        for author in authors {
            let Ok(Some(traffic)) = self.parts.registry.traffic(&author) else { continue };
            for release in releases(&traffic) {
                let loaded = self.release(&author, release).and_then(|release| self.adapter(&release.model));
                if let Err(error) = loaded {
                    tracing::debug!(%author, release, %error, "a release could not be made ready");
                }
            }
        }
    }

    /// Follows the pointer of every author until it is dropped.
    pub async fn follow(self: Arc<Self>) {
        loop {
            let twins = Arc::clone(&self);
            // A panic in a look is no reason not to look again.
            let _ = tokio::task::spawn_blocking(move || twins.prepare_releases()).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The versions whose adapters are in memory, the least recently used first.
    pub fn ready_models(&self) -> Vec<ModelVersionId> {
        self.adapters.models()
    }

    pub(super) fn release(&self, author: &AuthorId, number: u32) -> Result<Release, TwinError> {
        Ok(self.parts.registry.release(author, number)?)
    }
}

/// The shadow last, as nobody waits for it.
fn releases(traffic: &Traffic) -> impl Iterator<Item = u32> {
    let arms = traffic.arms.iter().map(|arm| arm.release);
    std::iter::once(traffic.release).chain(arms).chain(traffic.shadow)
}
