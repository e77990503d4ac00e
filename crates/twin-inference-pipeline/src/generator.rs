//! The one thread that runs the language model, and who is let through to it.
//!
//! Several answers are written together, a token of each in turn, because reading the model's weights is what takes the time;
//! others wait, and who would have to wait too long is told at once. When the reader of an answer is gone, it ends at the
//! next token. A slow reader holds nobody up: what it has not read yet, at most a whole answer, waits for it.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self as std_mpsc, TryRecvError};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use twin_domain::CancelFlag;
use twin_models::language::{
    Batch, FinishReason, GenerateError, GenerateRequest, Generation, LanguageModel, Listener, Timings, Usage,
};

use crate::cite::Patience;

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

/// The right to one answer. Whoever holds it counts as running or waiting, unless nobody was there; dropping it lets the next
/// one in.
#[derive(Debug)]
pub struct Permit(#[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

/// An answer that is being written.
pub struct Running {
    /// The text as it comes. Dropping it stops the model.
    pub text: mpsc::UnboundedReceiver<String>,
    /// The whole, when it is done. Closed without a value when the model panicked.
    pub done: oneshot::Receiver<Result<Generation, GenerateError>>,
}

struct Job {
    request: GenerateRequest,
    patience: Option<Patience>,
    cancel: CancelFlag,
    text: mpsc::UnboundedSender<String>,
    done: oneshot::Sender<Result<Generation, GenerateError>>,
}

/// The way to the model's thread. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Generator {
    jobs: std_mpsc::Sender<Job>,
    permits: Arc<Semaphore>,
    capacity: usize,
    queue: usize,
}

impl Generator {
    /// Starts the thread. It writes at most `together` answers at once, and at most `queue` more requests wait.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start(model: Arc<dyn LanguageModel>, together: usize, queue: usize) -> std::io::Result<Self> {
        let together = together.max(1);
        let capacity = queue + together;
        // Without a bound of its own: only holders of permits send, one job each.
        let (sender, jobs) = std_mpsc::channel::<Job>();
        thread::Builder::new()
            .name("generator".to_owned())
            .spawn(move || while serve(model.as_ref(), &jobs, together).is_continue() {})?;
        let permits = Arc::new(Semaphore::new(capacity));
        Ok(Self { jobs: sender, permits, capacity, queue })
    }

    /// Asks to be let in.
    ///
    /// # Errors
    /// [`SubmitError::Full`] when too many are in already.
    pub fn admit(&self) -> Result<Permit, SubmitError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        permit.map(|permit| Permit(Some(permit))).map_err(|_| SubmitError::Full { waiting: self.queue })
    }

    /// The right to something that nobody waits for, while nobody is answered. It takes no one's place.
    pub fn spare(&self) -> Option<Permit> {
        (self.admitted() == 0).then_some(Permit(None))
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
        let (text_sender, text) = mpsc::unbounded_channel();
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

/// Writes answers until there are no more to come, or until the model panics: that costs the answers at hand, whose channels
/// close, which is reported as a failure of each; everybody else is served by a new batch.
fn serve(model: &dyn LanguageModel, jobs: &std_mpsc::Receiver<Job>, together: usize) -> ControlFlow<()> {
    let panicked = |_| tracing::error!("the language model panicked while it wrote answers");
    let mut batch = model.batch();
    loop {
        while batch.len() < together {
            let job =
                if batch.is_empty() { jobs.recv().map_err(|_| TryRecvError::Disconnected) } else { jobs.try_recv() };
            match job {
                Ok(job) => {
                    // One that is refused with a panic has not touched the others.
                    let _ = catch_unwind(AssertUnwindSafe(|| begin(batch.as_mut(), job))).map_err(panicked);
                }
                Err(TryRecvError::Disconnected) if batch.is_empty() => return ControlFlow::Break(()),
                Err(_) => break,
            }
        }
        if catch_unwind(AssertUnwindSafe(|| batch.step())).map_err(panicked).is_err() {
            return ControlFlow::Continue(());
        }
    }
}

fn begin<'a>(batch: &mut (dyn Batch<'a> + 'a), job: Job) {
    let Job { request, patience, cancel, text, done } = job;
    // Whoever asked may have left while this was waiting; then the prompt is not even read.
    if text.is_closed() || cancel.is_cancelled() {
        let _ = done.send(Ok(nothing())); // Nobody may be left to read it.
        return;
    }
    let reader = Reader { patience, shown: String::new(), broken_off: false, text, done };
    batch.add(request, cancel, Box::new(reader));
}

/// The one who waits for an answer, with the patience that they have.
struct Reader {
    patience: Option<Patience>,
    shown: String,
    broken_off: bool,
    text: mpsc::UnboundedSender<String>,
    done: oneshot::Sender<Result<Generation, GenerateError>>,
}

impl Listener for Reader {
    fn text(&mut self, piece: &str) -> ControlFlow<()> {
        let piece = match self.patience.as_mut().map(|patience| patience.follow(piece)) {
            None => piece.to_owned(),
            Some(ControlFlow::Continue(piece)) => piece,
            Some(ControlFlow::Break(())) => {
                self.broken_off = true;
                return ControlFlow::Break(());
            }
        };
        if piece.is_empty() {
            // Nothing to send, but somebody to send it to?
            return if self.text.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        }
        self.shown.push_str(&piece);
        match self.text.send(piece) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn end(self: Box<Self>, result: Result<Generation, GenerateError>) {
        let Self { shown, broken_off, done, .. } = *self;
        let result = result.map(|mut generation| {
            // An answer that ends in a repetition is complete as well.
            let repeats = shown.len() < generation.text.len() && generation.finish_reason == FinishReason::Length;
            if broken_off || repeats {
                generation.finish_reason = FinishReason::Stop;
            }
            generation.text = shown;
            generation
        });
        let _ = done.send(result); // As above.
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
        Generator::start(Arc::new(model), 1, queue).unwrap()
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
        let generator = Generator::start(Arc::new(model), 2, 4).unwrap();
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
