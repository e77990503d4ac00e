//! Reading ahead: what a reader is still typing is looked up, and the model reads the prompt, before anybody asks.

use std::sync::Arc;

use twin_domain::CancelFlag;
use twin_models::language::{GenerateRequest, Input, Sampling};

use super::{AnswerError, AnswerRequest, Twins};
use crate::generator::Running;

impl Twins {
    /// Reads what a request would be answered from, so that its first word comes at once when it is asked. The passages stand
    /// before the question, so that they are known even where the question goes on otherwise. Nothing is shown, recorded or
    /// counted, and nothing is done while anybody is answered.
    ///
    /// # Errors
    /// [`AnswerError`]; readers never see it.
    pub async fn read_ahead(self: &Arc<Self>, request: AnswerRequest, cancel: CancelFlag) -> Result<(), AnswerError> {
        let Some(permit) = self.generator.spare() else { return Ok(()) };
        let this = Arc::clone(self);
        let prepared = tokio::task::spawn_blocking(move || this.prepare(&request)).await??;
        if prepared.abstention.is_some() || cancel.is_cancelled() {
            return Ok(());
        }
        let (input, adapter) = (Input::Messages(prepared.messages), prepared.twin.adapter);
        let job = GenerateRequest { input, adapter, sampling: Sampling::greedy(1) };
        let Running { text, done } = self.generator.submit(&permit, job, None, cancel)?;
        let read = done.await;
        drop(text); // Closed earlier, it would have stopped the model.
        read.map_err(|_| AnswerError::ModelFailed)??;
        Ok(())
    }
}
