//! All that is done before the model runs: the twin, its passages, and a prompt that fits the model.

use std::sync::Arc;

use twin_domain::{ChatMessage, Filter, Role};
use twin_models::language::{GenerateError, Sampling};
use twin_models::prompt::Request;

use super::{AnswerError, AnswerRequest, Trimmed, Twin, Twins};
use crate::cite::{Evidence, Patience};
use crate::retrieve::{Corpus, FoundPassage, Retrieval, RetrievalConfig, is_follow_up, retrieve};

/// What a twin says instead of answering, when nothing relevant was found.
const ABSTENTION: &str = "I have not written about that, as far as my posts go.";

/// The most characters of a request that are searched with. The embedder reads fewer, and a search by words takes long with many.
const MAX_QUERY_CHARACTERS: usize = 2_000;

/// The tokens that a prompt leaves free for an answer, at least.
const ROOM_FOR_ANSWER: usize = 64;

/// All that is known before the model runs.
pub(super) struct Prepared {
    pub twin: Twin,
    pub retrieval: Retrieval,
    pub messages: Vec<ChatMessage>,
    pub sampling: Sampling,
    /// The passages for citing; `None` without any.
    pub evidence: Option<Arc<Evidence>>,
    /// What the twin says instead of answering, when nothing relevant was found.
    pub abstention: Option<&'static str>,
    pub trimmed: Trimmed,
}

impl Twins {
    /// Finds the twin and its passages and renders the prompt. Blocking.
    pub(super) fn prepare(&self, asked: &AnswerRequest) -> Result<Prepared, AnswerError> {
        let parts = &self.parts;
        let twin = self.twin_of(&asked.model, asked.release)?;
        self.check_length(asked)?;
        let mut retrieval = self.passages_for(&twin, asked)?;
        let asks = matches!(asked.request, Request::Ask { .. });
        let abstention = (asks && !retrieval.trace.relevant).then_some(ABSTENTION);
        if !retrieval.trace.relevant {
            retrieval.passages.clear();
        }
        let count = |text: &str| parts.model.count_tokens(text);
        let history = recent(&asked.history, parts.config.history, parts.config.history_tokens, &count);
        let (found, told) = (retrieval.passages.len(), asked.history.len());
        let (messages, history) = self.fitting_prompt(&twin, asked, &mut retrieval.passages, history)?;
        let given = retrieval.passages.len();
        let trimmed = Trimmed { messages: told - history, passages: found - given };
        for candidate in &mut retrieval.trace.candidates {
            candidate.passage = candidate.passage.filter(|number| *number <= given);
        }
        let sampling = asked.sampling.clone().unwrap_or_else(|| parts.config.sampling(&asked.request));
        let evidence = if retrieval.passages.is_empty() {
            None
        } else {
            let (passages, embedder) = (retrieval.passages.clone(), parts.embedder.as_ref());
            Some(Arc::new(Evidence::of_known(passages, embedder, &self.known)?))
        };
        Ok(Prepared { twin, retrieval, messages, sampling, evidence, abstention, trimmed })
    }

    /// What is asked is never shortened. Where it alone is too long, that is said before it costs a search.
    fn check_length(&self, asked: &AnswerRequest) -> Result<(), GenerateError> {
        let model = self.parts.model.as_ref();
        let instructions = asked.instructions.as_deref().unwrap_or_default();
        let prompt_tokens = model.count_tokens(&spoken(&asked.request)) + model.count_tokens(instructions);
        let context_length = model.info().context_length;
        if prompt_tokens < context_length {
            return Ok(());
        }
        Err(GenerateError::PromptTooLong { prompt_tokens, context_length })
    }

    /// Searches an author's posts as the twin does, for at most so many passages. Blocking.
    ///
    /// # Errors
    /// When there is no such twin, or the search fails.
    pub fn search(&self, name: &str, query: &str, limit: usize) -> Result<Retrieval, AnswerError> {
        let twin = self.twin(name)?;
        let config = RetrievalConfig {
            max_passages: limit,
            max_tokens: limit * self.parts.config.retrieval.max_tokens,
            ..self.parts.config.retrieval.clone()
        };
        let count = |text: &str| self.parts.model.count_tokens(text);
        Ok(retrieve(&self.corpus(&twin), &beginning(query), &Filter::default(), &config, &count)?)
    }

    fn corpus<'a>(&'a self, twin: &'a Twin) -> Corpus<'a> {
        Corpus {
            store: self.parts.store.as_ref(),
            embedder: self.parts.embedder.as_ref(),
            view: &twin.view,
            author: &twin.author.id,
            author_name: &twin.author.name,
            model: Some(self.parts.model.as_ref()),
        }
    }

    /// How long the reader of an answer bears with statements that nothing supports. A draft may say anything.
    pub(super) fn patience(&self, prepared: &Prepared, request: &Request) -> Option<Patience> {
        let limit = self.parts.config.patience;
        let evidence = prepared.evidence.as_ref().filter(|_| limit > 0 && matches!(request, Request::Ask { .. }))?;
        Some(Patience::new(Arc::clone(evidence), Arc::clone(&self.parts.embedder), limit))
    }

    /// What the author wrote on the subject. Nothing is looked up for a text that is to go on: it is its own context.
    fn passages_for(&self, twin: &Twin, asked: &AnswerRequest) -> Result<Retrieval, AnswerError> {
        if matches!(asked.request, Request::Continue { .. }) {
            return Ok(Retrieval::default());
        }
        let parts = &self.parts;
        let query = query(&asked.request, &asked.history);
        let count = |text: &str| parts.model.count_tokens(text);
        Ok(retrieve(&self.corpus(twin), &query, &Filter::default(), &parts.config.retrieval, &count)?)
    }

    /// The prompt, shortened until it leaves the model room to answer: first by the oldest of the earlier messages, then by the
    /// weakest passages, and never by what is asked. What is too long even so, the model refuses. With it comes how many
    /// earlier messages it has.
    fn fitting_prompt(
        &self,
        twin: &Twin,
        asked: &AnswerRequest,
        passages: &mut Vec<FoundPassage>,
        mut history: Vec<ChatMessage>,
    ) -> Result<(Vec<ChatMessage>, usize), AnswerError> {
        let model = self.parts.model.as_ref();
        loop {
            let given: Vec<_> = passages.iter().map(FoundPassage::for_prompt).collect();
            let mut messages = self.parts.prompts.render(&twin.author, &asked.request, &given, &history)?;
            if let (Some(extra), Some(system)) = (&asked.instructions, messages.first_mut()) {
                system.content = format!("{}\n{extra}", system.content);
            }
            let tokens = model.encode_chat(&messages, true).map_err(GenerateError::from)?.len();
            let fits = tokens + ROOM_FOR_ANSWER <= model.info().context_length;
            if fits || (history.is_empty() && passages.pop().is_none()) {
                return Ok((messages, history.len()));
            }
            history.drain(..history.len().min(2));
        }
    }
}

/// What a request says, for the record and for search.
pub(crate) fn spoken(request: &Request) -> String {
    match request {
        Request::Ask { question } => question.clone(),
        Request::WritePost { title } | Request::WriteThread { title } | Request::WriteAbstract { title } => {
            title.clone()
        }
        Request::WriteSection { title, heading } => format!("{title}: {heading}"),
        Request::Continue { opening } => opening.clone(),
    }
}

/// What to search for. A follow-up such as "And why?" says too little by itself: the question before it is added.
fn query(request: &Request, history: &[ChatMessage]) -> String {
    let text = spoken(request);
    let before = history.iter().rev().find(|message| message.role == Role::User);
    let query = match before {
        Some(before) if matches!(request, Request::Ask { .. }) && is_follow_up(&text) => {
            format!("{} {text}", before.content)
        }
        _ => text,
    };
    beginning(&query)
}

/// As much of a query as is searched for.
fn beginning(query: &str) -> String {
    query.chars().take(MAX_QUERY_CHARACTERS).collect()
}

/// The last messages that fit, beginning with one of the reader's.
fn recent(history: &[ChatMessage], most: usize, tokens: usize, count: &dyn Fn(&str) -> usize) -> Vec<ChatMessage> {
    let mut room = tokens;
    let mut start = history.len();
    for (index, message) in history.iter().enumerate().rev().take(most) {
        let Some(left) = room.checked_sub(count(&message.content)) else { break };
        room = left;
        start = index;
    }
    let first_of_reader = history[start..].iter().position(|message| message.role == Role::User);
    first_of_reader.map_or_else(Vec::new, |offset| history[start + offset..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(question: &str) -> Request {
        Request::Ask { question: question.to_owned() }
    }

    #[test]
    fn a_follow_up_is_searched_with_the_question_before() {
        let history = [ChatMessage::user("What is oakum?"), ChatMessage::assistant("Tarred hemp.")];
        assert_eq!(query(&ask("And why?"), &history), "What is oakum? And why?");
        assert_eq!(query(&ask("How long does cotton last?"), &history), "How long does cotton last?");
        assert_eq!(query(&ask("And why?"), &[]), "And why?");
        assert_eq!(query(&Request::WritePost { title: "It".into() }, &history), "It");
        assert_eq!(query(&ask(&"œuf ".repeat(9_000)), &[]).chars().count(), MAX_QUERY_CHARACTERS);
    }

    #[test]
    fn history_is_bounded_and_begins_with_the_reader() {
        let history: Vec<_> = (0..6)
            .flat_map(|n| [ChatMessage::user(format!("q {n}")), ChatMessage::assistant(format!("a {n}"))])
            .collect();
        let count = |text: &str| text.split_whitespace().count();
        assert_eq!(recent(&history, 4, 100, &count).len(), 4);
        let few = recent(&history, 4, 7, &count);
        assert_eq!(few, history[10..], "three fit, and the first of them is the twin's");
        assert!(recent(&history, 4, 1, &count).is_empty());
    }
}
