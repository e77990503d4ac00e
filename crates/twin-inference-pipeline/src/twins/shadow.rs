//! Shadows: a release that answers what readers ask, and whose answers nobody sees.

use std::sync::Arc;

use tokio::sync::mpsc;
use twin_domain::CancelFlag;

use super::{Answer, AnswerError, AnswerRequest, Twins};

impl Twins {
    /// Answers once more with the shadow of the author, if there is one, and keeps the answer beside the one that was seen.
    /// Readers come first: while anybody waits for the model or is answered, shadows are left out.
    ///
    /// # Errors
    /// [`AnswerError`]; readers never see it.
    pub async fn shadow(
        self: &Arc<Self>,
        request: AnswerRequest,
        seen: &Answer,
        cancel: CancelFlag,
    ) -> Result<Option<Answer>, AnswerError> {
        let Some(conversation) = request.conversation.clone() else { return Ok(None) };
        let (this, author, seen) = (Arc::clone(self), seen.trace.author.clone(), seen.trace.release);
        let shadow = tokio::task::spawn_blocking(move || this.shadow_of(&author, seen)).await?;
        let Some(release) = shadow.filter(|_| self.generator.admitted() == 0) else { return Ok(None) };
        let Ok(permit) = self.admit() else { return Ok(None) };
        let (sender, mut events) = mpsc::channel(16);
        let request = AnswerRequest { release: Some(release), conversation: None, ..request };
        let unheard = async move { while events.recv().await.is_some() {} };
        let (answer, ()) = tokio::join!(self.answer(permit, request, sender, cancel), unheard);
        let answer = answer?;
        self.parts.conversations.add_shadow(&conversation, &answer).await?;
        Ok(Some(answer))
    }
}
