use std::time::Instant;

use serde_json::Value;
use twin_style::assessment::{Assessment, Assessor, Gate};
use twin_style::cheats::Cheat;
use twin_style::likeness::{AuthorTexts, Others, RulerConfig};
use twin_style::text::{as_markdown, normalise};

/// One author of the verification set: known prose and newer pieces, and both as Markdown.
struct Author {
    name: String,
    known: String,
    pieces: Vec<String>,
    markdown: (String, Vec<String>),
}

impl Author {
    fn texts(&self) -> AuthorTexts<'_> {
        let (known, pieces) = &self.markdown;
        AuthorTexts {
            name: self.name.clone(),
            known: vec![known],
            held_out: pieces.iter().map(String::as_str).collect(),
        }
    }
}

fn authors() -> Option<Vec<Author>> {
    let field = |row: &Value, name: &str| normalise(row[name].as_str().unwrap());
    let questioned = crate::rows("style-verification-tech/questioned.jsonl")?;
    let author = |row: &Value| {
        let of_author = questioned.iter().filter(|one| one["author"] == row["author"]);
        let (known, pieces): (String, Vec<String>) =
            (field(row, "text"), of_author.map(|one| field(one, "text")).collect());
        let markdown = (as_markdown(&known), pieces.iter().map(|piece| as_markdown(piece)).collect());
        Author { name: field(row, "author"), known, pieces, markdown }
    };
    Some(crate::rows("style-verification-tech/known.jsonl")?.iter().map(author).collect())
}

/// Every cheat on one author, and that author's own new text.
fn trials(authors: &[Author], name: &str) -> (Vec<(Cheat, Assessment)>, Assessment) {
    let author = authors.iter().find(|author| author.name == name).unwrap();
    let others: Vec<&Author> = authors.iter().filter(|other| other.name != name).collect();
    let impostors: Vec<AuthorTexts<'_>> = others.iter().map(|other| other.texts()).collect();
    let assessor =
        Assessor::fit(&author.texts(), &Others { texts: &impostors, ..Others::default() }, RulerConfig::default())
            .unwrap();
    let pieces: Vec<String> = others.iter().flat_map(|other| other.pieces.iter().cloned()).collect();
    let assess = |texts: &[String]| {
        let texts: Vec<String> = texts.iter().map(|text| as_markdown(text)).collect();
        assessor.assess(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let trial = |cheat: Cheat| (cheat, assess(&cheat.texts(&author.known, &pieces, 8, 500, 17)));
    (Cheat::ALL.map(trial).to_vec(), assess(&author.pieces))
}

#[test]
fn no_cheat_passes_and_the_author_does() {
    let Some(authors) = authors() else { return };
    for name in ["matklad", "burntsushi", "Russ Cox", "Ed Page"] {
        let start = Instant::now();
        let (trials, own) = trials(&authors, name);
        eprintln!("{name}: {} ({:.1} s)", own.verdict(), start.elapsed().as_secs_f64());
        assert!(own.is_like_the_author(), "{name}: {own:?}");
        for (cheat, assessment) in trials {
            let likeness = assessment.likeness.as_ref().map(|likeness| (likeness.value, likeness.accepted_share));
            eprintln!("  {}: L {likeness:?}, {}", cheat.label(), assessment.verdict());
            assert!(!assessment.is_like_the_author(), "{name}, {cheat:?}: {assessment:?}");
            let gate = match cheat {
                Cheat::Copied | Cheat::ShuffledSentences => Gate::Copying,
                Cheat::Markov2 | Cheat::Markov1 => Gate::Stitching,
                Cheat::RandomWords => Gate::Fluency,
                Cheat::LoopedSentence => Gate::Repetition,
                Cheat::ImpostorWithDashes | Cheat::ImpostorOnTopic => Gate::Likeness,
            };
            assert!(assessment.stopped_by.contains(&gate), "{name}, {cheat:?}: {assessment:?}");
        }
    }
}
