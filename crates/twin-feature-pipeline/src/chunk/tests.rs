use proptest::prelude::*;
use twin_domain::{AuthorId, Digest, DocumentId, DocumentInfo, FeatureView};
use twin_models::embedding::ScriptedEmbedder;

use super::*;

fn document(text: &str) -> Document {
    let author = AuthorId::parse("ada").unwrap();
    let content_hash = Document::content_hash("Title", None, &[], text);
    let info = DocumentInfo {
        id: DocumentId::new(&author, "file:x"),
        author,
        url: "file:x".to_owned(),
        title: "Title".to_owned(),
        date: None,
        language: None,
        tags: Vec::new(),
        content_hash,
    };
    Document { info, text: text.to_owned() }
}

fn view() -> FeatureViewId {
    let view = FeatureView {
        cleaner: String::new(),
        chunker: String::new(),
        max_chunk_tokens: 0,
        embedder: String::new(),
        embedder_digest: Digest::of(""),
        dimension: 1,
        sparse: String::new(),
    };
    view.id()
}

fn chunks(text: &str, max_tokens: usize) -> Vec<PreparedChunk> {
    split(&document(text), &view(), max_tokens, &ScriptedEmbedder::default())
}

fn check(text: &str, max_tokens: usize, expected: &[&str]) {
    let texts: Vec<String> = chunks(text, max_tokens).into_iter().map(|prepared| prepared.chunk.text).collect();
    assert_eq!(texts, expected);
}

#[test]
fn small_neighbours_of_one_section_are_joined() {
    check("One two.\n\nThree four.\n\nFive six.\n", 5, &["One two.\n\nThree four.\n\n", "Five six.\n"]);
}

#[test]
fn chunks_do_not_reach_over_headings() {
    check(
        "Intro.\n\n## A\n\nText a.\n\n## B\n\nText b.\n",
        50,
        &["Intro.\n\n", "## A\n\nText a.\n\n", "## B\n\nText b.\n"],
    );
}

#[test]
fn a_heading_without_text_joins_what_follows() {
    let prepared = chunks("## A\n\n### B\n\nText.\n", 50);
    assert_eq!(prepared.len(), 1);
    assert_eq!(prepared[0].chunk.heading_path, ["A", "B"]);
    assert_eq!(prepared[0].embedding_text, "Title › A › B\n\n## A\n\n### B\n\nText.\n");
}

#[test]
fn heading_paths_follow_the_levels() {
    let text = "a\n\n# One\n\nb\n\n### Deep *er*\n\nc\n\n## Two\n\nd\n\nSetext\n======\n\ne\n";
    let paths: Vec<String> = chunks(text, 50).iter().map(|prepared| prepared.chunk.heading_path.join("/")).collect();
    assert_eq!(paths, ["", "One", "One/Deep er", "One/Two", "Setext"]);
}

#[test]
fn long_paragraphs_are_cut_between_sentences() {
    check(
        "One two three. Four five six. Seven eight nine.\n",
        7,
        &["One two three. Four five six. ", "Seven eight nine.\n"],
    );
}

#[test]
fn long_lists_are_cut_between_items() {
    check("- one two\n- three four\n  - five six\n", 4, &["- one two\n", "- three four\n", "  - five six\n"]);
}

#[test]
fn code_fences_are_never_split() {
    let code = "```rust\nfn main() { one(); two(); three(); }\n\n// four five six\n```\n";
    check(&format!("Intro.\n\n{code}\nAfter.\n"), 5, &["Intro.\n\n", &format!("{code}\n"), "After.\n"]);
    let in_list = "- item one two three\n\n  ```\n  a b c d\n\n  e f g h\n  ```\n\n- next item\n";
    assert!(chunks(in_list, 4).iter().any(|prepared| prepared.chunk.text.contains("a b c d\n\n  e f g h")));
}

#[test]
fn kinds_and_foreign_ranges_are_known() {
    let text = "My words.\n\n> Their words, which are longer than mine.\n\n```\ncode\n```\n";
    let prepared = chunks(text, 100);
    let chunk = &prepared[0].chunk;
    let foreign: Vec<&str> = chunk.not_voice.iter().map(|range| &chunk.text[range.clone()]).collect();
    assert_eq!(foreign.concat().replace('\n', ""), "> Their words, which are longer than mine.```code```");
    assert_eq!(chunks("```\nlong enough code\n```\nx\n", 100)[0].chunk.kind, ChunkKind::Code);
    assert_eq!(chunks("> quoted words\n\nx\n", 100)[0].chunk.kind, ChunkKind::Quotation);
    assert_eq!(chunks("words\n", 100)[0].chunk.kind, ChunkKind::Prose);
}

#[test]
fn a_word_without_end_is_cut_into_pieces_that_are_measured_by_bytes() {
    let text = format!("Start. {} end.\n", "QUJD".repeat(50_000));
    let prepared = chunks(&text, 100);
    assert!(prepared.iter().all(|prepared| prepared.chunk.text.len() <= 100 * 12));
    assert_eq!(joined(&prepared), text);
}

#[test]
fn a_title_without_end_leaves_room_for_text() {
    let mut document = document("One two three four.\n");
    document.info.title = "word ".repeat(500);
    let prepared = split(&document, &view(), 30, &ScriptedEmbedder::default());
    assert_eq!(prepared.len(), 1);
    assert!(prepared[0].tokens <= 30, "{}", prepared[0].tokens);
}

#[test]
fn large_texts_do_not_take_time_by_the_square() {
    let seconds = |text: &str| {
        let begun = std::time::Instant::now();
        assert_eq!(joined(&chunks(text, 220)), text);
        begun.elapsed().as_secs_f64()
    };
    for unit in [
        "One two three. ",
        "word ",
        "a",
        "`x` *y* [z](w) ",
        "- a\n  - b\n",
        "| a | b |\n|---|---|\n",
        "[a]: b\n",
        "> a\n",
        "```\na\n```\n",
        "<!-- a -->\n",
        "*_",
        "[",
        "`",
    ] {
        let taken = seconds(&unit.repeat(1_000_000 / unit.len()));
        // With the square of its length, a text would take hours.
        assert!(taken < 120.0, "a million bytes of {unit:?} took {taken:.1} s");
    }
}

fn joined(prepared: &[PreparedChunk]) -> String {
    prepared.iter().map(|prepared| prepared.chunk.text.as_str()).collect()
}

proptest! {
    /// Whatever the text: chunks are slices that touch, numbered in order, with ranges inside, and small unless code.
    #[test]
    fn chunks_are_the_document(parts in prop::collection::vec(part(), 0..40), max_tokens in 4_usize..60) {
        let text = parts.concat();
        prop_assume!(!text.is_empty());
        let prepared = chunks(&text, max_tokens);
        prop_assert_eq!(joined(&prepared), text.clone());
        let code = Outline::of(&text).code;
        let mut at = 0;
        for (ordinal, PreparedChunk { chunk, .. }) in prepared.iter().enumerate() {
            prop_assert_eq!(chunk.ordinal as usize, ordinal);
            prop_assert_eq!(chunk.chunk_count as usize, prepared.len());
            prop_assert!(!chunk.text.is_empty());
            for range in &chunk.not_voice {
                prop_assert!(chunk.text.get(range.clone()).is_some());
            }
            let end = at + chunk.text.len();
            prop_assert!(!code.iter().any(|range| range.start < end && end < range.end), "a code block was split");
            at = end;
        }
    }
}

/// Pieces of Markdown, tidy and not.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}( [a-zé]{1,8}){0,30}[.!?]\n\n",
        "#{1,6} [A-Z][a-z ]{0,20}\n\n",
        "- [a-z]{1,8}( [a-z]{1,8}){0,10}\n",
        "> [a-z]{1,8}( [a-z]{1,8}){0,10}\n\n",
        "```[a-z]{0,4}\n([a-z ;]{0,20}\n){0,6}```\n",
        "    [a-z]{1,8};\n",
        "(\\| [a-z]{1,4} ){2}\\|\n",
        "<div>[a-z]{0,9}</div>\n\n",
        "1\\. [a-z]{1,8}\n\n   ```\n   [a-z]{1,9}\n   ```\n",
        "\\PC{0,40}",
        "[-*_>#`~ \t\n\\[\\]()!é。]{0,20}",
    ]
}
