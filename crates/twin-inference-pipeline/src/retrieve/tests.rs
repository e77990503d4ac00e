use twin_domain::{Chunk, ChunkKind, Digest, ScoredChunk};
use twin_models::embedding::ScriptedEmbedder;

use super::*;

fn scored(document: usize, ordinal: u32, text: &str, similarity: f32) -> ScoredChunk {
    let author = AuthorId::parse("ada").unwrap();
    let url = format!("https://ada.example/{document}");
    let id = DocumentId::new(&author, &url);
    let info = DocumentInfo {
        id,
        author,
        url,
        title: format!("Post {document}"),
        date: None,
        language: None,
        tags: vec![],
        content_hash: Digest::of(text),
    };
    let chunk = Chunk {
        id: ChunkId(uuid::Uuid::from_u128(document as u128 * 100 + u128::from(ordinal))),
        document: id,
        ordinal,
        chunk_count: 10,
        kind: ChunkKind::Prose,
        heading_path: vec![],
        text: text.to_owned(),
        search_text: text.to_owned(),
        not_voice: vec![],
    };
    let embedding = twin_domain::Embedding::new(vec![1.0]).unwrap();
    ScoredChunk { chunk, document: info, score: similarity, similarity, lexical: None, embedding }
}

fn found(chunks: &[ScoredChunk]) -> Vec<Found> {
    chunks
        .iter()
        .map(|scored| Found { scored: scored.clone(), words: 0.0, lexical: 0.0, tokens: 0.0, value: scored.similarity })
        .collect()
}

fn build(chunks: &[ScoredChunk], config: &RetrievalConfig) -> Vec<FoundPassage> {
    context::build(&found(chunks), config, &|text| text.split_whitespace().count())
}

#[test]
fn neighbours_become_one_passage() {
    let chunks = [scored(1, 4, "second. ", 0.9), scored(2, 0, "other", 0.8), scored(1, 3, "first. ", 0.7)];
    let passages = build(&chunks, &RetrievalConfig::default());
    let texts: Vec<_> = passages.iter().map(|p| (p.number, p.text.as_str(), p.similarity)).collect();
    assert_eq!(texts, [(1, "first. second. ", 0.9), (2, "other", 0.8)]);
}

#[test]
fn neighbours_under_another_heading_stay_apart() {
    let mut chunks = [scored(1, 4, "second. ", 0.9), scored(1, 3, "first. ", 0.7)];
    chunks[1].chunk.heading_path = vec!["Before".into()];
    assert_eq!(build(&chunks, &RetrievalConfig::default()).len(), 2);
}

#[test]
fn one_document_does_not_crowd_out_the_others() {
    let chunks: Vec<_> = (0..5).map(|n| scored(1, n * 2, "x", 0.9)).chain([scored(2, 0, "y", 0.1)]).collect();
    let passages = build(&chunks, &RetrievalConfig::default());
    assert_eq!(passages.iter().filter(|passage| passage.document.title == "Post 1").count(), 2);
    assert!(passages.iter().any(|passage| passage.document.title == "Post 2"));
}

#[test]
fn the_budget_is_filled_and_numbers_have_no_gaps() {
    let config = RetrievalConfig { max_tokens: 8, ..RetrievalConfig::default() };
    let chunks = [
        scored(1, 0, "one two three", 0.9),
        scored(1, 1, "a neighbour that is too long", 0.85),
        scored(2, 0, "far too long to fit in here", 0.8),
        scored(3, 0, "x", 0.7),
    ];
    let passages = build(&chunks, &config);
    let chosen: Vec<_> = passages.iter().map(|p| (p.number, p.document.title.as_str(), p.chunks.len())).collect();
    assert_eq!(chosen, [(1, "Post 1", 1), (2, "Post 3", 1)]);
    let candidates = candidates(&found(&chunks), &passages);
    assert_eq!(candidates.iter().map(|c| c.passage).collect::<Vec<_>>(), [Some(1), None, None, Some(2)]);
}

fn reranked(chunks: &[ScoredChunk], question: &str, config: &RetrievalConfig) -> Vec<Found> {
    rerank(chunks.to_vec(), question, "Ada", &ScriptedEmbedder::default(), config).unwrap()
}

#[test]
fn far_passages_are_relevant_by_their_words_and_near_ones_by_their_nearness() {
    let config = RetrievalConfig::default();
    let relevant = |chunks: &[ScoredChunk]| {
        let found = reranked(chunks, "How does Ada caulk the garboard seam?", &config);
        found.iter().any(|found| found.nearness(&config) >= config.relevant)
    };
    assert!(relevant(&[scored(1, 0, "How does she do it?", 0.9)]));
    assert!(relevant(&[scored(1, 0, "Caulking the garboard seam is slow.", 0.4)]));
    assert!(!relevant(&[scored(1, 0, "The cat was late, says Ada.", 0.4)]));
    // The nearness of one chunk and the words of another are no answer together.
    let words_far_away = scored(2, 0, "Caulking a garboard.", -0.4);
    assert!(!relevant(&[scored(1, 0, "The cat was late, says Ada.", 0.47), words_far_away]));
    assert!(!relevant(&[]));
}

#[test]
fn a_chunk_with_the_rare_words_goes_before_one_that_is_a_little_nearer() {
    let mut chunks = [scored(1, 0, "A boat on the mud.", 0.5), scored(2, 0, "A boat on its trailer.", 0.4)];
    (chunks[0].lexical, chunks[1].lexical) = (Some(1.0), Some(4.0));
    let first = |lexical_weight: f32| {
        let config = RetrievalConfig { token_weight: 0.0, lexical_weight, ..RetrievalConfig::default() };
        reranked(&chunks, "Which trailer for a boat?", &config)[0].scored.document.title.clone()
    };
    assert_eq!(first(0.4), "Post 2");
    assert_eq!(first(0.0), "Post 1");
}

#[test]
fn tokens_that_are_met_count_and_can_be_switched_off() {
    let chunks = [scored(1, 0, "On mud.", 0.5), scored(2, 0, "Which of the others?", 0.49)];
    let first = |token_weight: f32| {
        let config = RetrievalConfig { token_weight, ..RetrievalConfig::default() };
        reranked(&chunks, "Which others?", &config)[0].scored.document.title.clone()
    };
    assert_eq!(first(1.0), "Post 2");
    assert_eq!(first(0.0), "Post 1");
}

#[test]
fn a_chunk_that_says_what_was_said_gives_its_place_to_another() {
    let mut chunks = [scored(1, 0, "x", 0.9), scored(2, 0, "x again", 0.85), scored(3, 0, "y", 0.8)];
    let direction = |x: f32, y: f32| twin_domain::Embedding::new(vec![x, y]).unwrap();
    chunks[0].embedding = direction(1.0, 0.0);
    chunks[1].embedding = direction(1.0, 0.0);
    chunks[2].embedding = direction(0.0, 1.0);
    let titles = |diversity: f32| {
        let config = RetrievalConfig { diversity, max_passages: 2, ..RetrievalConfig::default() };
        build(&chunks, &config).into_iter().map(|passage| passage.document.title).collect::<Vec<_>>()
    };
    assert_eq!(titles(0.2), ["Post 1", "Post 3"]);
    assert_eq!(titles(0.0), ["Post 1", "Post 2"]);
}

#[test]
fn follow_ups_lean_on_what_was_said_before() {
    for leaning in ["And why?", "How long does it take?", "Why is that?", "What did they cost?"] {
        assert!(is_follow_up(leaning), "{leaning}");
    }
    for alone in [
        "How long does cotton last?",
        "What is a garboard seam?",
        "Did the mast of Miss Adair come apart because it was glued?",
    ] {
        assert!(!is_follow_up(alone), "{alone}");
    }
}

#[test]
fn expansion_adds_what_tells_the_first_chunks_from_the_rest() {
    let first = (0..3).map(|n| scored(n, 0, "Oakum and pitch: a boat is caulked with oakum, says Ada.", 0.9));
    let rest = (3..20).map(|n| scored(n, 0, "A boat lies in the harbour, and pitch is dear.", 0.5));
    let chunks: Vec<ScoredChunk> = first.chain(rest).collect();
    let words = expand::words("How is a boat caulked?", "Ada", &chunks);
    assert_eq!(words[0], "oakum");
    for known in ["boat", "caulked", "ada", "and"] {
        assert!(!words.iter().any(|word| word == known), "{known} in {words:?}");
    }
    assert!(expand::words("How?", "Ada", &[]).is_empty());
}
