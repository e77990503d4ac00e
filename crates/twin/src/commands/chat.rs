//! `twin chat`: a conversation in the terminal.

use std::io::BufRead;
use std::ops::ControlFlow;
use std::sync::Arc;

use twin_domain::{CancelFlag, ChatMessage};
use twin_inference_pipeline::cite::{Piece, Support};
use twin_inference_pipeline::twins::{Answer, AnswerRequest, Event, LABEL, Trace, Twins};
use twin_models::prompt::Request;

use crate::args::ChatArguments;
use crate::output;
use crate::wiring::{Wiring, blocking};

use super::serve;

pub async fn run(wiring: &Wiring, arguments: ChatArguments) -> anyhow::Result<bool> {
    let twins = serve::twins(wiring).await?;
    // A name that is not known is told before anybody types a question.
    let (known, name) = (Arc::clone(&twins), arguments.author.clone());
    blocking(move || known.twin(name.as_str()).map(drop)).await?;
    let request = |request: Request, history: Vec<ChatMessage>| {
        let mut sampling = twins.config().sampling(&request);
        sampling.seed = arguments.seed.unwrap_or(sampling.seed);
        AnswerRequest { history, sampling: Some(sampling), ..AnswerRequest::new(arguments.author.as_str(), request) }
    };
    let once = match (arguments.message, arguments.write) {
        (Some(question), _) => Some(Request::Ask { question }),
        (None, Some(title)) => Some(Request::WritePost { title }),
        (None, None) => None,
    };
    if let Some(once) = once {
        let answer = speak(&twins, request(once, Vec::new()), &wiring.cancel, wiring.json).await?;
        if wiring.json {
            output::line(serde_json::to_string_pretty(&answer)?);
        }
        return Ok(!answer.trace.abstained);
    }
    output::remark(format!("{LABEL} Ask away; an empty line ends the conversation."));
    let mut history = Vec::new();
    while let Some(question) = read_line().await? {
        let cancel = CancelFlag::new();
        let asked = request(Request::Ask { question: question.clone() }, history.clone());
        let answer = speak(&twins, asked, &cancel, false).await?;
        history.extend([ChatMessage::user(question), ChatMessage::assistant(answer.text)]);
        if wiring.cancel.is_cancelled() {
            break;
        }
    }
    Ok(true)
}

/// Prints an answer as it comes, then its sources.
async fn speak(
    twins: &Arc<Twins>,
    request: AnswerRequest,
    cancel: &CancelFlag,
    silent: bool,
) -> anyhow::Result<Answer> {
    let print = |event: Event| {
        if let (Event::Token { text }, false) = (event, silent) {
            output::piece(&text);
        }
        ControlFlow::Continue(())
    };
    let answer = twins.answer_with(request, print, cancel.clone()).await?;
    if !silent {
        sources(&answer.trace);
    }
    Ok(answer)
}

/// The passages an answer rests on, and what of it rests on none.
pub fn sources(trace: &Trace) {
    output::line("");
    for number in cited(&trace.pieces) {
        if let Some(passage) = trace.passages.iter().find(|passage| passage.number == number) {
            let date = passage.document.date.map(|date| format!(", {date}")).unwrap_or_default();
            output::line(format!("  [{number}] {}{date} <{}>", passage.document.title, passage.document.url));
        }
    }
    let unsupported = trace.pieces.iter().filter(|piece| piece.support == Support::Unsupported).count();
    if unsupported > 0 {
        output::line(format!("  {unsupported} of {} sentences have no support in the posts", trace.pieces.len()));
    }
}

/// The citation numbers of an answer, in the order in which they first occur.
pub fn cited(pieces: &[Piece]) -> Vec<usize> {
    let mut numbers = Vec::new();
    for number in pieces.iter().flat_map(|piece| &piece.citations) {
        if !numbers.contains(number) {
            numbers.push(*number);
        }
    }
    numbers
}

async fn read_line() -> anyhow::Result<Option<String>> {
    output::piece("\n> ");
    let read = || {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line.trim().to_owned())
    };
    Ok(Some(blocking(read).await?).filter(|line| !line.is_empty()))
}
