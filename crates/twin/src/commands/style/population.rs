//! `twin style population`: other people in numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use twin_style::population::{Contributor, Member, Population};
use twin_style::text::as_markdown;

use crate::args::PopulationCommand;
use crate::commands::bench::corpus::{Row, by_author, rows};
use crate::output;
use crate::wiring::Wiring;

/// The population that comes with the program: see `data/population/README.md`.
static BUILTIN: &[u8] = include_bytes!("../../../../../data/population/posts-and-essays-2.json.gz");

/// The population in a file, or the one that comes with the program.
pub fn load(file: Option<&Path>) -> anyhow::Result<Arc<Population>> {
    let Some(file) = file else {
        return Ok(Arc::new(Population::from_bytes(BUILTIN).context("the population that comes with the program")?));
    };
    let bytes = fs_err::read(file)?;
    let population = Population::from_bytes(&bytes).with_context(|| format!("could not read `{}`", file.display()))?;
    Ok(Arc::new(population))
}

pub fn run(wiring: &Wiring, command: PopulationCommand) -> anyhow::Result<bool> {
    match command {
        PopulationCommand::Build { texts, same, without, name, out } => {
            let mut authors = authors(&texts, &same)?;
            authors.retain(|(name, ..)| !without.contains(name));
            build(wiring, &authors, &name, &out)
        }
        PopulationCommand::Show { file } => {
            let population = load(file.as_deref())?;
            show(wiring, &population)?;
            Ok(true)
        }
    }
}

/// An author, a genre and Markdown texts, oldest first.
type Texts = (String, String, Vec<String>);

/// The authors of all sources.
fn authors(sources: &[String], same: &[String]) -> anyhow::Result<Vec<Texts>> {
    let same: BTreeMap<&str, &str> = same.iter().map(|pair| names(pair)).collect::<anyhow::Result<_>>()?;
    let mut authors: Vec<Texts> = Vec::new();
    for source in sources {
        let (genre, path) = source
            .split_once('=')
            .with_context(|| format!("`{source}` does not say what kind of texts these are: write `posts={source}`"))?;
        authors.extend(read(genre, Path::new(path), &same)?);
    }
    Ok(authors)
}

fn build(wiring: &Wiring, authors: &[Texts], name: &str, out: &Path) -> anyhow::Result<bool> {
    let contributors: Vec<Contributor<'_>> = authors
        .iter()
        .map(|(name, genre, posts)| Contributor {
            name: name.clone(),
            genre: genre.clone(),
            posts: posts.iter().map(String::as_str).collect(),
        })
        .collect();
    let population = Population::build(name, &contributors);
    let bytes = population.to_bytes()?;
    // Beside it and then renamed: a reader sees the old file or the new one.
    let beside = out.with_extension("part");
    fs_err::write(&beside, &bytes)?;
    fs_err::rename(&beside, out)?;
    show(wiring, &population)?;
    output::remark(format!("`{}` has {}", out.display(), output::bytes(bytes.len() as u64)));
    let left_out = contributors.len() - population.members().count();
    if left_out > 0 {
        output::remark(format!(
            "{left_out} authors have less than two units of known or of newer text and were left out"
        ));
    }
    Ok(population.members().count() > 0)
}

fn names(pair: &str) -> anyhow::Result<(&str, &str)> {
    pair.split_once('=').with_context(|| format!("`{pair}` does not name one author twice: write `NAME=NAME`"))
}

/// The authors of a file or folder. One who is there under two names is one; with folders, one after the other.
fn read(genre: &str, path: &Path, same: &BTreeMap<&str, &str>) -> anyhow::Result<Vec<Texts>> {
    let kept = |name: String| same.get(name.as_str()).map_or(name, |kept| (*kept).to_owned());
    let of_genre = |(name, texts): (String, Vec<String>)| (name, genre.to_owned(), texts);
    if path.is_file() {
        let renamed = |row: Row| Row { author: kept(row.author), ..row };
        let plain = by_author(rows(path)?.into_iter().map(renamed).collect());
        let markdown =
            |(name, texts): (String, Vec<String>)| (name, texts.iter().map(|text| as_markdown(text)).collect());
        return Ok(plain.into_iter().map(markdown).map(of_genre).collect());
    }
    let mut authors: Vec<Texts> = Vec::new();
    for folder in sorted(path)?.into_iter().filter(|entry| entry.is_dir()) {
        let mut texts = Vec::new();
        for file in sorted(&folder)? {
            if file.extension().is_some_and(|ending| ending == "md" || ending == "txt") {
                texts.push(fs_err::read_to_string(&file)?);
            }
        }
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = kept(name);
        match authors.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., known)) => known.extend(texts),
            None => authors.push(of_genre((name, texts))),
        }
    }
    if authors.is_empty() {
        anyhow::bail!("`{}` has no folder of an author with Markdown files in it", path.display());
    }
    Ok(authors)
}

/// What is in a folder, by name: files whose names begin with a date are in its order.
fn sorted(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut entries = fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn show(wiring: &Wiring, population: &Population) -> anyhow::Result<()> {
    let members: Vec<&Member> = population.members().collect();
    output::result(wiring.json, &members, |members| {
        output::line(format!(
            "{}: {} authors, units of {} words",
            population.name,
            members.len(),
            population.unit_words()
        ));
        let row = |member: &&Member| {
            vec![
                member.name.clone(),
                member.genre.clone(),
                member.known_words.to_string(),
                member.held_out_units.to_string(),
            ]
        };
        output::table(&["author", "genre", "known words", "held-out units"], members.iter().map(row));
    })
}
