//! The one thread that runs the language model, and who is let through to it.
//!
//! A model uses all cores for one answer, so answers are written one after another; who would have to wait too long is told
//! at once. Tokens go through a small channel: when its reader is gone, the model stops at the next token.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use twin_domain::CancelFlag;
use twin_models::language::{FinishReason, GenerateError, GenerateRequest, Generation, LanguageModel, Timings, Usage};

use crate::cite::Patience;

/// How many pieces of text may wait for a slow reader.
const TEXT_BUFFER: usize = 16;

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many are waiting.
    #[error("{waiting} others are waiting for the model already: try again in a moment")]
    Full { waiting: usize },
    /// The model's thread is gone.
    #[error("the model is not running")]
    Stopped,
}

/// The right to one answer. Whoever holds it counts as running or waiting; dropping it lets the next one in.
#[derive(Debug)]
pub struct Permit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// An answer that is being written.
pub struct Running {
    /// The text as it comes. Dropping it stops the model.
    pub text: mpsc::Receiver<String>,
    /// The whole, when it is done. Closed without a value when the model panicked.
    pub done: oneshot::Receiver<Result<Generation, GenerateError>>,
}

struct Job {
    request: GenerateRequest,
    patience: Option<Patience>,
    cancel: CancelFlag,
    text: mpsc::Sender<String>,
    done: oneshot::Sender<Result<Generation, GenerateError>>,
}

/// The way to the model's thread. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Generator {
    jobs: std_mpsc::Sender<Job>,
    permits: Arc<Semaphore>,
    capacity: usize,
}

impl Generator {
    /// Starts the thread. At most `queue` requests wait while one is served.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start(model: Arc<dyn LanguageModel>, queue: usize) -> std::io::Result<Self> {
        let capacity = queue + 1;
        // Without a bound of its own: only holders of permits send, one job each.
        let (sender, jobs) = std_mpsc::channel::<Job>();
        thread::Builder::new().name("generator".to_owned()).spawn(move || {
            while let Ok(job) = jobs.recv() {
                serve(model.as_ref(), job);
            }
        })?;
        Ok(Self { jobs: sender, permits: Arc::new(Semaphore::new(capacity)), capacity })
    }

    /// Asks to be let in.
    ///
    /// # Errors
    /// [`SubmitError::Full`] when too many are in already.
    pub fn admit(&self) -> Result<Permit, SubmitError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        permit.map(Permit).map_err(|_| SubmitError::Full { waiting: self.capacity - 1 })
    }

    /// Hands a request to the thread. When `patience` is over, the answer ends as if the model had ended it.
    ///
    /// # Errors
    /// [`SubmitError::Stopped`] when the thread is gone.
    pub fn submit(
        &self,
        _permit: &Permit,
        request: GenerateRequest,
        patience: Option<Patience>,
        cancel: CancelFlag,
    ) -> Result<Running, SubmitError> {
        let (text_sender, text) = mpsc::channel(TEXT_BUFFER);
        let (done_sender, done) = oneshot::channel();
        let job = Job { request, patience, cancel, text: text_sender, done: done_sender };
        self.jobs.send(job).map_err(|_| SubmitError::Stopped)?;
        Ok(Running { text, done })
    }

    /// How many answers are being written or waited for.
    pub fn admitted(&self) -> usize {
        self.capacity - self.permits.available_permits()
    }
}

fn serve(model: &dyn LanguageModel, job: Job) {
    let Job { request, mut patience, cancel, text, done } = job;
    // Whoever asked may have left while this was waiting; then the prompt is not even read.
    if text.is_closed() || cancel.is_cancelled() {
        let _ = done.send(Ok(nothing())); // Nobody may be left to read it.
        return;
    }
    let generate = || {
        let mut shown = String::new();
        let mut broken_off = false;
        let mut generation = model.generate(&request, &cancel, &mut |piece| {
            let piece = match patience.as_mut().map(|patience| patience.follow(piece)) {
                None => piece.to_owned(),
                Some(ControlFlow::Continue(piece)) if piece.is_empty() => return ControlFlow::Continue(()),
                Some(ControlFlow::Continue(piece)) => piece,
                Some(ControlFlow::Break(())) => {
                    broken_off = true;
                    return ControlFlow::Break(());
                }
            };
            shown.push_str(&piece);
            match text.blocking_send(piece) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        // An answer that ends in a repetition is complete as well.
        let repeats = shown.len() < generation.text.len() && generation.finish_reason == FinishReason::Length;
        if broken_off || repeats {
            generation.finish_reason = FinishReason::Stop;
        }
        generation.text = shown;
        Ok(generation)
    };
    // A panic in the model must not take the thread away from everybody else; the request's channel closes, which is
    // reported as a failure of this one answer.
    match catch_unwind(AssertUnwindSafe(generate)) {
        Ok(generation) => drop(done.send(generation)), // As above.
        Err(_) => tracing::error!("the language model panicked while it wrote an answer"),
    }
}

/// What a model wrote that was stopped before it began.
pub(crate) fn nothing() -> Generation {
    Generation {
        text: String::new(),
        finish_reason: FinishReason::Cancelled,
        usage: Usage::default(),
        timings: Timings::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use twin_domain::ChatMessage;
    use twin_models::language::{Input, Sampling, ScriptedModel};

    use super::*;

    fn request() -> GenerateRequest {
        let input = Input::Messages(vec![ChatMessage::user("Hello")]);
        GenerateRequest { input, adapter: None, sampling: Sampling::greedy(1000) }
    }

    fn slow(queue: usize) -> Generator {
        let model = ScriptedModel::new(vec!["word ".repeat(500)]).with_delay(Duration::from_millis(10));
        Generator::start(Arc::new(model), queue).unwrap()
    }

    #[tokio::test]
    async fn who_does_not_fit_is_told_and_let_in_later() {
        let generator = slow(1);
        let first = generator.admit().unwrap();
        let _second = generator.admit().unwrap();
        assert_eq!(generator.admit().unwrap_err(), SubmitError::Full { waiting: 1 });
        assert_eq!(generator.admitted(), 2);
        drop(first);
        assert!(generator.admit().is_ok());
    }

    #[tokio::test]
    async fn dropping_the_reader_stops_the_model() {
        let generator = slow(1);
        let permit = generator.admit().unwrap();
        let mut running = generator.submit(&permit, request(), None, CancelFlag::new()).unwrap();
        assert!(running.text.recv().await.is_some());
        let Running { text, done } = running;
        let begun = Instant::now();
        drop(text);
        let generation = done.await.unwrap().unwrap();
        assert_eq!(generation.finish_reason, FinishReason::Cancelled);
        assert!(begun.elapsed() < Duration::from_secs(2), "500 words would take 5 s");
    }

    #[tokio::test]
    async fn a_panic_costs_one_answer_only() {
        let model = ScriptedModel::answering(|request| match request.sampling.seed {
            1 => panic!("a bug in the model"),
            _ => "Fine.".to_owned(),
        });
        let generator = Generator::start(Arc::new(model), 4).unwrap();
        let permit = generator.admit().unwrap();
        let mut bad = request();
        bad.sampling.seed = 1;
        let running = generator.submit(&permit, bad, None, CancelFlag::new()).unwrap();
        assert!(running.done.await.is_err());
        let mut good = request();
        good.sampling.seed = 2;
        let running = generator.submit(&permit, good, None, CancelFlag::new()).unwrap();
        assert_eq!(running.done.await.unwrap().unwrap().text, "Fine.");
    }
}
