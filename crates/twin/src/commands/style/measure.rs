//! `twin style measure`: does it read like the author, and is it more than copying?

use std::path::PathBuf;

use twin_domain::AuthorId;
use twin_domain::feature_store::StoredDocument;
use twin_style::assessment::{Assessment, Assessor};
use twin_style::likeness::{AuthorTexts, Others, RulerConfig, RulerQuality};

use super::{documents, population};
use crate::args::OthersArguments;
use crate::output;
use crate::wiring::Wiring;

/// The share of an author's words that is known; the rest is what the ruler is tried on.
const KNOWN_SHARE: f64 = 0.6;

pub async fn run(
    wiring: &Wiring,
    files: &[PathBuf],
    author: &AuthorId,
    others: &OthersArguments,
) -> anyhow::Result<bool> {
    let texts = files.iter().map(fs_err::read_to_string).collect::<Result<Vec<String>, _>>()?;
    let own = documents(wiring, author).await?;
    let name = wiring.store().await?.author(author)?.name;
    let mut strangers = Vec::new();
    for other in wiring.store().await?.authors()?.into_iter().filter(|other| other.id != *author) {
        let posts = wiring.store().await?.documents(&wiring.view().await?, &other.id)?;
        strangers.push((other.name, posts));
    }
    let strangers: Vec<AuthorTexts<'_>> = strangers.iter().map(|(name, posts)| parted(name, posts)).collect();
    let without: Vec<String> = others.without.iter().cloned().chain([author.to_string()]).collect();
    let among = Others {
        texts: &strangers,
        population: Some(population::load(others.population.as_deref())?),
        without: &without,
        genres: &others.genre,
    };
    let assessor = Assessor::fit(&parted(&name, &own), &among, RulerConfig::default())?;
    let assessment = assessor.assess(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let quality = assessor.ruler().quality();
    output::result(wiring.json, &(&assessment, quality), |(assessment, quality)| print(assessment, quality))?;
    Ok(assessment.is_like_the_author())
}

fn parted<'a>(name: &str, posts: &'a [StoredDocument]) -> AuthorTexts<'a> {
    let texts: Vec<&str> = posts.iter().map(|post| post.document.text.as_str()).collect();
    AuthorTexts::by_date(name, &texts, KNOWN_SHARE)
}

fn print(assessment: &Assessment, quality: &RulerQuality) {
    output::line(assessment.verdict());
    if let Some(likeness) = &assessment.likeness {
        let (low, high) = likeness.interval;
        let (least, most) = likeness.author_range;
        output::line(format!(
            "likeness {:.2} [{low:.2}, {high:.2}]; the author's own new posts get {least:.2} to {most:.2}, other people 0",
            likeness.value
        ));
        for component in &likeness.components {
            let value =
                component.value.map_or("does not tell the author apart".to_owned(), |value| format!("{value:.2}"));
            output::line(format!("  {}: {value}", component.component.label()));
        }
        output::line(format!(
            "{:.0}% of {} units pass for the author's, where 5% of other people's do and {:.0}% of the author's",
            likeness.accepted_share * 100.0,
            likeness.units,
            quality.true_accept * 100.0
        ));
    }
    output::line(format!(
        "copied 8-grams {:.1}%, longest run {} words, known pairs {:.0}%, different 4-grams {:.0}%",
        assessment.copied_share * 100.0,
        assessment.longest_run,
        assessment.pairs_share * 100.0,
        assessment.distinct_4 * 100.0
    ));
    let (low, high) = quality.auc_interval;
    output::line(format!(
        "the ruler tells this author from {} others with an AUC of {:.2} [{low:.2}, {high:.2}]; calibration error {:.2}",
        quality.impostor_authors, quality.auc, quality.calibration_error
    ));
}
