use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

#[test]
fn a_copied_passage_is_found_and_named() {
    let index = CopyIndex::new(&["One two three.", "The old putty was whiting, linseed oil and red lead, she said."]);
    let report = index.report("He wrote: the old putty was whiting, linseed oil and red lead. Then more words came.");
    assert_eq!(report.longest_run, 10);
    assert_eq!(report.longest_text, "the old putty was whiting linseed oil and red lead");
    assert_eq!((report.source, report.sources.as_slice()), (Some(1), &[1][..]));
    assert!((report.share - 3.0 / 9.0).abs() < 1e-12);
    assert!(report.is_copied());
}

#[test]
fn all_copied_runs_are_found() {
    let index =
        CopyIndex::new(&["The old putty was whiting, linseed oil and red lead, she said.", "a b c d e f g h i"]);
    let found = index.copied_runs("So the old putty was whiting, linseed oil and red paint. A b c d e f g h j.");
    assert_eq!(found, ["the old putty was whiting linseed oil and red", "a b c d e f g h"]);
    assert!(index.copied_runs("\"The old putty was whiting, linseed oil and red lead\"").is_empty());
    assert_eq!(words_in_common("The old putty, was", "the OLD putty is"), 3);
    assert_eq!(words_in_common("", "the"), 0);
}

#[test]
fn what_is_quoted_is_not_copied() {
    let index = CopyIndex::new(&["The old putty was whiting, linseed oil and red lead, she said."]);
    let marked = index.report("She wrote “the old putty was whiting, linseed oil and red lead” of it.");
    assert_eq!((marked.share, marked.longest_run), (0.0, 0));
    assert!((marked.quoted_share - 10.0 / 14.0).abs() < 1e-12);
    let block = index.report("So:\n\n> the old putty was whiting, linseed oil and red lead");
    assert_eq!((block.share, block.longest_run), (0.0, 0));
    assert!(block.quoted_share > 0.9);
    // A mark that is never closed, and inches, quote nothing.
    assert_eq!(index.report("\"The old putty was whiting, linseed oil and red lead").longest_run, 10);
    assert_eq!(index.report("A 4\" brush: the old putty was whiting, linseed oil and 2\" of it").longest_run, 8);
    // What the author quoted is known text too.
    assert_eq!(CopyIndex::new(&["> one two three four"]).report("one two three four").longest_run, 4);
}

#[test]
fn new_text_is_new() {
    let report = CopyIndex::new(&["the cat sat on the mat"]).report("a dog lay on a rug");
    assert_eq!((report.share, report.longest_run), (0.0, 0));
    assert!(!report.is_copied());
    assert_eq!(CopyIndex::new(&[]).report(""), CopyReport::default());
}

#[test]
fn a_standing_signature_is_no_source() {
    let signature = "Thank you for reading, and do write to me if anything here is wrong.";
    let posts: Vec<String> = ["One.", "Two.", "Three."].map(|post| format!("{post}\n\n{signature}")).to_vec();
    let report =
        |posts: &[String]| CopyIndex::new(&posts.iter().map(String::as_str).collect::<Vec<_>>()).report(signature);
    assert_eq!(report(&posts).longest_run, 0);
    assert_eq!(report(&posts[..2]).longest_run, 14);
}

#[test]
fn nothing_runs_from_one_text_into_the_next() {
    let report = CopyIndex::new(&["one two three", "four five six"]).report("one two three four five six");
    assert_eq!((report.longest_run, report.source), (3, Some(0)));
}

#[test]
fn endless_repetition_is_no_trap() {
    let known = "the ".repeat(100_000);
    let report = CopyIndex::new(&[&known]).report(&"the ".repeat(500));
    assert_eq!(report.longest_run, 500);
    assert_eq!(report.share, 1.0);
}

/// The same by comparing everything with everything.
fn naive(known: &[Vec<&str>], text: &[&str]) -> (f64, usize) {
    let run = |from: usize| {
        let places = known.iter().flat_map(|known| (0..known.len()).map(move |at| &known[at..]));
        places.map(|place| text[from..].iter().zip(place).take_while(|(a, b)| a == b).count()).max().unwrap_or(0)
    };
    let runs: Vec<usize> = (0..text.len()).map(run).collect();
    let grams = (text.len() + 1).saturating_sub(GRAM).max(1);
    let copied = runs.iter().filter(|run| **run >= GRAM).count();
    let longest = runs.into_iter().max().filter(|run| *run > 1).unwrap_or(0);
    (copied as f64 / grams as f64, longest)
}

proptest! {
    #[test]
    fn agrees_with_comparing_everything(
        known in prop::collection::vec("[ab]{1,2}( [abc]{1,2}){0,30}", 0..3),
        copied in 0_usize..20,
        text in "[ab]{1,2}( [abcd]{1,2}){0,30}",
    ) {
        let mut text = text;
        // Without this, eight words in a row hardly ever agree.
        for word in known.first().into_iter().flat_map(|known| known.split(' ').skip(1).take(copied)) {
            let _ = write!(text, " {word}");
        }
        let split: Vec<Vec<&str>> = known.iter().map(|known| known.split(' ').collect()).collect();
        let (share, longest) = naive(&split, &text.split(' ').collect::<Vec<_>>());
        let texts: Vec<&str> = known.iter().map(String::as_str).collect();
        let report = CopyIndex::new(&texts).report(&text);
        prop_assert!((report.share - share).abs() < 1e-12);
        prop_assert_eq!(report.longest_run, longest);
        if let Some(source) = report.source {
            prop_assert!(known[source].contains(&report.longest_text));
        }
    }
}
