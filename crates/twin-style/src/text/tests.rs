use proptest::prelude::*;

use super::*;

#[test]
fn only_prose_is_left() {
    let markdown = "---\ntitle: x\n---\n# Title\n\nSee [this](https://x.example/a_b) *now* — it’s `let x` good.\nStill so.\n\n\
        ```\ncode\n```\n\n> Somebody else said this.\n\n    indented code\n\n- one\n- two\n\n| a | b |\n|---|---|\n| c | d |\n\n\
        <div>html</div>\n\n![alt](i.png) Or <https://y.example> and https://z.example/q now\n";
    assert_eq!(prose(markdown), "See this now - it's good. Still so.\n\none\n\ntwo\n\nOr and now");
    assert!(prose_with_quotes(markdown).contains("Somebody else said this."));
}

#[test]
fn typography_makes_no_difference() {
    let printed = normalise("“It’s late”—he said—“so, go…”");
    assert_eq!(printed, normalise("\"It's late\" -- he said --- \"so, go...\""));
    assert_eq!(printed, "\"It's late\" - he said - \"so, go...\"");
    assert_eq!(normalise("1990–1995, well-known, use --release"), "1990-1995, well-known, use --release");
    assert_eq!(normalise("cafe\u{301}\u{a0}\u{200b}x\n\n\n\n y"), "café x\n\ny");
}

#[test]
fn markup_is_counted() {
    let counted = markup("# A\n\n- *x*\n- **y** [z](u)\n\n> q\n\n```\nc\n```\n");
    let expected = Markup { headings: 1, list_items: 2, links: 1, emphases: 2, code_blocks: 1, block_quotes: 1 };
    assert_eq!(counted, expected);
}

#[test]
fn words_keep_contractions() {
    assert_eq!(words("It's 3 o'clock, DON'T 3rd").collect::<Vec<_>>(), ["it's", "o'clock", "don't"]);
}

#[test]
fn paragraphs_of_three_documents_are_boilerplate() {
    let documents =
        ["One.\n\nThanks for reading!", "thanks for reading\n\nTwo.\n\nTwo.", "Three.\n\nThanks, for reading.", "Two."];
    assert_eq!(without_boilerplate(&documents), ["One.", "Two.\n\nTwo.", "Three.", "Two."]);
}

fn check_sentences(text: &str, expected: &[&str]) {
    let found: Vec<&str> = sentences(text).into_iter().map(|range| &text[range]).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn sentences_end_where_a_reader_would_end_them() {
    check_sentences("It is. It was! Was it? Yes.", &["It is.", "It was!", "Was it?", "Yes."]);
    check_sentences(
        "Dr. Pym paid Mr. J. R. Holt £3.50 at 5 p.m. on Jan. 3. He left.",
        &["Dr. Pym paid Mr. J. R. Holt £3.50 at 5 p.m. on Jan. 3.", "He left."],
    );
    check_sentences("He lives in the U.S. The U.S. Navy knows.", &["He lives in the U.S.", "The U.S. Navy knows."]);
    check_sentences("No. 5 is No. That is all.", &["No. 5 is No.", "That is all."]);
    check_sentences("\"Really?\" she asked. \"Yes.\" He went.", &["\"Really?\" she asked.", "\"Yes.\"", "He went."]);
    check_sentences(
        "Well... maybe. Well... Maybe so (it is.) Good.",
        &["Well... maybe.", "Well...", "Maybe so (it is.)", "Good."],
    );
    check_sentences("1. Cut it, e.g. Here. 2. Glue", &["1. Cut it, e.g. Here.", "2. Glue"]);
    check_sentences(
        "So did I. Use rustc 1.95.0 or example.com now",
        &["So did I.", "Use rustc 1.95.0 or example.com now"],
    );
    check_sentences("a line\nthat wraps\n\nand a new one", &["a line\nthat wraps", "and a new one"]);
    check_sentences(
        "Tar, rope, etc. We left. Tar etc. and rope.",
        &["Tar, rope, etc.", "We left.", "Tar etc. and rope."],
    );
    check_sentences("これは文。次の文。", &["これは文。", "次の文。"]);
    check_sentences(" . ", &["."]);
    check_sentences("", &[]);
}

#[test]
fn long_documents_are_cut_and_short_ones_joined() {
    let long = "word ".repeat(1240);
    let short = "word ".repeat(150);
    let found = units(&[&long, &short, &short, &short, &short, &short], 500);
    let shape: Vec<_> = found.iter().map(|unit| (unit.words, unit.documents.clone())).collect();
    // 1,240 words are two units of 620; the four short ones that reach 500 are one; what is left joins the last.
    assert_eq!(shape, [(620, vec![0]), (620, vec![0]), (750, vec![1, 2, 3, 4, 5])]);
    assert_eq!(units(&["only this", ""], 500)[0].words, 2);
    assert!(units(&["", " "], 500).is_empty());
}

proptest! {
    #[test]
    fn nothing_panics_and_ranges_are_of_the_text(text in "\\PC{0,60}([.!?]\"? [A-Z]?\\PC{0,20}\n{0,2}){0,6}") {
        let prose = prose(&text);
        let mut last = 0;
        for range in sentences(&prose) {
            prop_assert!(range.start >= last && range.end > range.start);
            prop_assert!(prose[last..range.start].trim().is_empty());
            prop_assert_eq!(prose[range.clone()].trim(), &prose[range.clone()]);
            last = range.end;
        }
        prop_assert!(prose[last..].trim().is_empty());
        prop_assert_eq!(normalise(&normalise(&text)), normalise(&text));
    }

    #[test]
    fn units_keep_every_word(lengths in prop::collection::vec(0_usize..40, 0..12), target in 1_usize..30) {
        let documents: Vec<String> = lengths.iter().map(|length| "a b. ".repeat(*length)).collect();
        let units = units(&documents, target);
        prop_assert_eq!(units.iter().map(|unit| unit.words).sum::<usize>(), lengths.iter().sum::<usize>() * 2);
        for unit in &units {
            prop_assert_eq!(word_count(&unit.text), unit.words);
            prop_assert!(unit.words * 2 >= target || units.len() == 1);
        }
    }
}
