//! The one thread that runs the language model, behind a bounded queue.
//!
//! A model uses all cores for one answer, so answers are written one after another; who would have to wait too long is told
//! at once. Tokens go through a small channel: when its reader is gone, the model stops at the next token.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::{mpsc, oneshot};
use twin_domain::CancelFlag;
use twin_models::language::{GenerateError, GenerateRequest, Generation, LanguageModel};

/// How many pieces of text may wait for a slow reader.
const TEXT_BUFFER: usize = 32;

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many are waiting.
    #[error("the queue for the model is full, with {waiting} waiting: try again in a moment")]
    Full { waiting: usize },
    /// The server is shutting down, or the model's thread died.
    #[error("the model is not running")]
    Stopped,
}

/// An answer that is being written.
pub struct Running {
    /// The text as it comes. Dropping it stops the model.
    pub text: mpsc::Receiver<String>,
    /// The whole, when it is done.
    pub done: oneshot::Receiver<Result<Generation, GenerateError>>,
}

struct Job {
    request: GenerateRequest,
    cancel: CancelFlag,
    text: mpsc::Sender<String>,
    done: oneshot::Sender<Result<Generation, GenerateError>>,
}

/// The queue to the model's thread. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Generator {
    queue: SyncSender<Job>,
    waiting: Arc<AtomicUsize>,
}

impl Generator {
    /// Starts the thread. At most `queue` requests wait while one is served.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start(model: Arc<dyn LanguageModel>, queue: usize) -> std::io::Result<Self> {
        let (sender, jobs) = sync_channel::<Job>(queue);
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        thread::Builder::new().name("generator".to_owned()).spawn(move || {
            while let Ok(job) = jobs.recv() {
                counter.fetch_sub(1, Ordering::Relaxed);
                serve(model.as_ref(), job);
            }
        })?;
        Ok(Self { queue: sender, waiting })
    }

    /// Hands a request to the thread.
    ///
    /// # Errors
    /// [`SubmitError::Full`] when too many wait.
    pub fn submit(&self, request: GenerateRequest, cancel: CancelFlag) -> Result<Running, SubmitError> {
        let (text_sender, text) = mpsc::channel(TEXT_BUFFER);
        let (done_sender, done) = oneshot::channel();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let job = Job { request, cancel, text: text_sender, done: done_sender };
        match self.queue.try_send(job) {
            Ok(()) => Ok(Running { text, done }),
            Err(error) => {
                let waiting = self.waiting.fetch_sub(1, Ordering::Relaxed) - 1;
                Err(match error {
                    TrySendError::Full(_) => SubmitError::Full { waiting },
                    TrySendError::Disconnected(_) => SubmitError::Stopped,
                })
            }
        }
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

fn serve(model: &dyn LanguageModel, job: Job) {
    // Whoever asked may have left while this was waiting.
    if job.text.is_closed() {
        return;
    }
    let text = job.text;
    let generate = || {
        model.generate(&job.request, &job.cancel, &mut |piece| match text.blocking_send(piece.to_owned()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    };
    // A panic in the model must not take the thread away from everybody else; the request's channel closes, which is
    // reported as a failure of this one answer.
    if let Ok(generation) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(generate)) {
        let _ = job.done.send(generation); // Nobody may be left to read it.
    }
}
