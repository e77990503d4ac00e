//! `twin retrieve`: what the twin would read before it answers.

use twin_domain::Filter;
use twin_inference_pipeline::retrieve::{Corpus, Retrieval, RetrievalConfig, retrieve};

use crate::args::RetrieveArguments;
use crate::output;
use crate::wiring::Wiring;

/// How much of a passage is shown.
const SHOWN: usize = 160;

pub async fn run(wiring: &Wiring, arguments: RetrieveArguments) -> anyhow::Result<bool> {
    let (store, embedder, view) = (wiring.store().await?, wiring.embedder().await?, wiring.searchable_view().await?);
    let author = store.author(&arguments.author)?;
    let config = RetrievalConfig {
        max_passages: arguments.limit,
        limit: arguments.limit * 3,
        max_tokens: usize::MAX,
        ..RetrievalConfig::default()
    };
    let count = |text: &str| embedder.count_tokens(text);
    let corpus =
        Corpus { store: &*store, embedder: &*embedder, view: &view, author: &author.id, author_name: &author.name };
    let found = retrieve(&corpus, &arguments.question, &Filter::default(), &config, &count)?;
    output::result(wiring.json, &found, print)?;
    Ok(found.trace.relevant)
}

fn print(found: &Retrieval) {
    for passage in &found.passages {
        let text = passage.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown: String = text.chars().take(SHOWN).collect();
        let title = passage.for_prompt().title;
        output::line(format!(
            "{:>2}. {title}  (similarity {:.2}, score {:.4})",
            passage.number, passage.similarity, passage.score
        ));
        output::line(format!("    {}", passage.document.url));
        output::line(format!("    {shown} …"));
    }
    let verdict =
        if found.trace.relevant { "near enough to answer from" } else { "nothing near enough: the twin would say so" };
    output::line(format!("{verdict} ({:.0} ms)", (found.trace.embed_seconds + found.trace.query_seconds) * 1e3));
}
