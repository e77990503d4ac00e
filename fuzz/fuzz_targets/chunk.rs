//! A text in chunks: joined, they are the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twin_domain::{AuthorId, Digest, Document, DocumentId, DocumentInfo, FeatureViewId};
use twin_feature_pipeline::chunk;
use twin_models::embedding::ScriptedEmbedder;

fuzz_target!(|input: (u8, &str)| {
    let (most, text) = (usize::from(input.0).max(12), input.1);
    let (Ok(author), Some(view)) = (AuthorId::parse("ada"), FeatureViewId::parse("features-0123456789ab")) else { return };
    let url = "https://a.example/".to_owned();
    let info = DocumentInfo {
        id: DocumentId::new(&author, &url),
        author,
        url,
        title: "A title".to_owned(),
        date: None,
        language: None,
        tags: Vec::new(),
        content_hash: Digest::of(text),
    };
    let document = Document { info, text: text.to_owned() };
    let chunks = chunk::split(&document, &view, most, &ScriptedEmbedder::default());
    assert_eq!(chunks.iter().map(|prepared| prepared.chunk.text.as_str()).collect::<String>(), text);
});
