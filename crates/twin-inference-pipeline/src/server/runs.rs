//! Answers of the chat page that are being written, and those that just were.
//!
//! What is written is kept here and not with the connection, so a page that was reloaded, or lost the server for a moment,
//! reads on where it was. Readers hold nothing: each takes what it has not seen when it can, and an answer that nobody has
//! read for a while ends. The conversation keeps what was written; this forgets it soon after.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::openai::ApiError;
use super::view::{AnswerView, PassageView};
use super::{Caller, ServerState};
use crate::generator::Permit;
use crate::twins::{Answer, AnswerError, AnswerRequest, Event};

/// The most answers, and the most bytes of them, that are kept once they are done.
const MAX_DONE: usize = 64;
const MAX_DONE_BYTES: usize = 16 * 1024 * 1024;

/// An answer ends when its text is longer than this; a model's context ends long before.
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// An answer whose reader has been away for longer gives way to somebody who waits. Reloading a page takes less.
const RELOAD: Duration = Duration::from_secs(2);

/// The answers, by conversation: of each the newest.
#[derive(Default)]
pub(super) struct Runs(Mutex<HashMap<String, Arc<Run>>>);

impl Runs {
    /// The answer that is being written in a conversation, or just was.
    pub(super) fn get(&self, conversation: &str) -> Option<Arc<Run>> {
        self.lock().get(conversation).cloned()
    }

    /// Whether an answer is being written in a conversation.
    pub(super) fn is_writing(&self, conversation: &str) -> bool {
        self.get(conversation).is_some_and(|run| run.progress().last.is_none())
    }

    /// Stops the answer that is being written in a conversation, and waits until it is recorded.
    pub(super) async fn settle(&self, conversation: &str) {
        if let Some(run) = self.get(conversation) {
            run.stop();
            run.ended().await;
        }
    }

    /// Forgets what was written in a conversation.
    pub(super) fn forget(&self, conversation: &str) {
        self.lock().remove(conversation);
    }

    /// Stops the answers that nobody reads, because somebody is waiting who would.
    pub(super) fn give_way(&self) {
        self.lock()
            .values()
            .filter(|run| run.progress().away().is_some_and(|away| away > RELOAD))
            .for_each(|run| run.stop());
    }

    fn insert(&self, conversation: &str, run: &Arc<Run>) {
        // Of two requests at the same moment the later one has the conversation.
        if let Some(earlier) = self.lock().insert(conversation.to_owned(), Arc::clone(run)) {
            earlier.stop();
        }
    }

    fn remove(&self, conversation: &str, run: &Arc<Run>) {
        let mut runs = self.lock();
        if runs.get(conversation).is_some_and(|newest| Arc::ptr_eq(newest, run)) {
            runs.remove(conversation);
        }
    }

    /// Lets go of the oldest that are done, until the others are few and small enough.
    fn make_room(&self) {
        let mut runs = self.lock();
        let mut done: Vec<(Instant, usize, String)> = Vec::new();
        for (conversation, run) in runs.iter() {
            let progress = run.progress();
            done.extend(progress.last.as_ref().map(|last| (last.at, progress.bytes(), conversation.clone())));
        }
        done.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
        let mut bytes = 0;
        for (index, (_, size, conversation)) in done.iter().enumerate() {
            bytes += size;
            if index >= MAX_DONE || bytes > MAX_DONE_BYTES {
                runs.remove(conversation);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Run>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer, as far as it is written.
pub(super) struct Run {
    progress: Mutex<Progress>,
    /// Tells readers that there is more.
    changed: watch::Sender<()>,
    stop: CancellationToken,
}

struct Progress {
    /// The data of the first event.
    retrieval: Option<String>,
    text: String,
    last: Option<Last>,
    /// How many readers have read all there is and wait for more.
    waiting: usize,
    /// When a reader last took something, or left.
    seen: Instant,
}

/// How an answer ended: the last event.
struct Last {
    name: &'static str,
    data: String,
    at: Instant,
}

/// Where a reader is in an answer. As the id of an event, it is the length of the text until then, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Beginning,
    Text(usize),
    End,
}

impl Run {
    fn new() -> Self {
        let progress = Progress { retrieval: None, text: String::new(), last: None, waiting: 0, seen: Instant::now() };
        Self { progress: Mutex::new(progress), changed: watch::Sender::new(()), stop: CancellationToken::new() }
    }

    /// Stops the model. What was written until then is the answer.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// The place after the event with this id.
    ///
    /// # Errors
    /// When no event has it.
    pub(super) fn place(&self, id: &str) -> Result<Place, ApiError> {
        let place = id.parse().ok().filter(|place| self.progress().text.is_char_boundary(*place));
        place.map(Place::Text).ok_or_else(|| {
            ApiError::bad_request(format!(
                "no event of this answer has the id `{id}`: leave `Last-Event-ID` out to read it all"
            ))
        })
    }

    /// The events from a place on, as they come.
    pub(super) fn follow(self: Arc<Self>, place: Place) -> Response {
        let events = stream::unfold((self, place), |(run, place)| async move {
            let (event, place) = run.next(place).await?;
            Some((Ok::<_, Infallible>(event), (run, place)))
        });
        let keep_alive = KeepAlive::new().interval(Duration::from_secs(10));
        axum::response::Sse::new(events).keep_alive(keep_alive).into_response()
    }

    async fn next(&self, place: Place) -> Option<(Sse, Place)> {
        if matches!(place, Place::End) {
            return None;
        }
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(next) = self.progress().after(place) {
                return Some(next);
            }
            let _waiting = Waiting::at(self);
            let _ = changes.changed().await; // The sender is here.
        }
    }

    async fn ended(&self) {
        // As above.
        let _ = self.changed.subscribe().wait_for(|()| self.progress().last.is_some()).await;
    }

    /// Takes what is written, until there is no more, somebody stops it, or nobody has read it for so long. Then the events are
    /// dropped, which stops the model.
    async fn take(&self, conversation: &str, mut events: mpsc::Receiver<Event>, patience: Duration) {
        let mut left_alone = std::pin::pin!(self.left_alone(patience));
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.add(conversation, event),
                    None => return,
                },
                () = self.stop.cancelled() => return,
                () = &mut left_alone => return,
            }
            if self.progress().text.len() > MAX_TEXT_BYTES {
                return;
            }
        }
    }

    fn add(&self, conversation: &str, event: Event) {
        match event {
            Event::Retrieval { passages, relevant } => {
                let passages = PassageView::all(&passages);
                let data = json!({ "conversation": conversation, "passages": passages, "relevant": relevant });
                self.progress().retrieval = Some(data.to_string());
            }
            Event::Token { text } => self.progress().text.push_str(&text),
        }
        self.changed.send_replace(());
    }

    fn end(&self, name: &'static str, data: String) {
        self.progress().last = Some(Last { name, data, at: Instant::now() });
        self.changed.send_replace(());
    }

    /// Ends when nobody has read for so long.
    async fn left_alone(&self, patience: Duration) {
        loop {
            let away = self.progress().away().unwrap_or_default();
            match patience.checked_sub(away) {
                Some(rest) if !rest.is_zero() => sleep(rest).await,
                _ => return,
            }
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// What comes after a place, and where it ends. A reader who was slow gets all of the text at once.
    fn after(&mut self, place: Place) -> Option<(Sse, Place)> {
        self.seen = Instant::now();
        let event = |name: &str, data: &str| Sse::default().event(name).data(data);
        match (place, &self.retrieval, &self.last) {
            (Place::Beginning, Some(data), _) => Some((event("retrieval", data).id("0"), Place::Text(0))),
            (Place::Text(read), ..) if read < self.text.len() => {
                let data = json!({ "text": self.text[read..] }).to_string();
                let end = self.text.len();
                Some((event("token", &data).id(end.to_string()), Place::Text(end)))
            }
            (Place::Beginning | Place::Text(_), _, Some(last)) => Some((event(last.name, &last.data), Place::End)),
            _ => None,
        }
    }

    /// For how long nobody has read what is being written.
    fn away(&self) -> Option<Duration> {
        (self.waiting == 0 && self.last.is_none()).then(|| self.seen.elapsed())
    }

    fn bytes(&self) -> usize {
        let retrieval = self.retrieval.as_ref().map_or(0, String::len);
        retrieval + self.text.len() + self.last.as_ref().map_or(0, |last| last.data.len())
    }
}

/// A reader who waits for more, until it is dropped. One whose connection is stuck does not come to waiting.
struct Waiting<'a>(&'a Run);

impl<'a> Waiting<'a> {
    fn at(run: &'a Run) -> Self {
        run.progress().waiting += 1;
        Self(run)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut progress = self.0.progress();
        progress.waiting -= 1;
        progress.seen = Instant::now();
    }
}

impl ServerState {
    /// Lets an answer be written on a task of its own that goes on without a reader for a while, and keeps it to be read as long.
    pub(super) fn run(&self, permit: Permit, request: AnswerRequest, conversation: String, caller: Caller) -> Arc<Run> {
        let run = Arc::new(Run::new());
        self.runs.insert(&conversation, &run);
        let (events, answer) = self.answer(permit, request, caller);
        self.answers.spawn(write(self.clone(), Arc::clone(&run), conversation, events, answer));
        run
    }
}

async fn write(
    state: ServerState,
    run: Arc<Run>,
    conversation: String,
    events: mpsc::Receiver<Event>,
    answer: JoinHandle<Result<Answer, AnswerError>>,
) {
    let patience = Duration::from_secs(state.twins.config().resume_seconds);
    run.take(&conversation, events, patience).await;
    match answer.await {
        Ok(Ok(Answer { text, trace })) => {
            let done = Done { conversation: &conversation, text: &text, answer: AnswerView::new(&trace) };
            // Our own plain values have no maps with non-text keys, the one thing that cannot be JSON.
            run.end("done", serde_json::to_string(&done).unwrap_or_default());
        }
        Ok(Err(error)) => run.end("error", ApiError::from(error).body().to_string()),
        Err(error) => run.end("error", ApiError::internal(error).body().to_string()),
    }
    state.runs.make_room();
    tokio::select! {
        () = sleep(patience) => state.runs.remove(&conversation, &run),
        () = state.stopping.cancelled() => {}
    }
}

#[derive(Serialize)]
struct Done<'a> {
    conversation: &'a str,
    text: &'a str,
    #[serde(flatten)]
    answer: AnswerView<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(bytes: usize) -> Arc<Run> {
        let run = Arc::new(Run::new());
        run.add("c", Event::Token { text: "x".repeat(bytes) });
        run.end("done", "{}".to_owned());
        run
    }

    #[test]
    fn what_is_done_is_bounded_in_number_and_bytes_and_the_newest_stays() {
        let few = Runs::default();
        (0..MAX_DONE + 10).for_each(|index| few.insert(&index.to_string(), &done(1)));
        few.make_room();
        assert_eq!(few.lock().len(), MAX_DONE);
        assert!(few.get("0").is_none() && few.get(&(MAX_DONE + 9).to_string()).is_some());

        let small = Runs::default();
        (0..20).for_each(|index| small.insert(&index.to_string(), &done(MAX_TEXT_BYTES)));
        small.insert("writing", &Arc::new(Run::new()));
        small.make_room();
        assert_eq!(small.lock().len(), MAX_DONE_BYTES / MAX_TEXT_BYTES);
        assert!(small.get("writing").is_some(), "what is being written stays");
    }
}
