//! A page in every medium: it is cleaned or refused, and cleaned Markdown stays as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twin_feature_pipeline::clean::{self, CleanOptions};
use twin_feature_pipeline::{Hints, Media, Page, exercise};

fuzz_target!(|bytes: &[u8]| {
    const MEDIA: [Media; 8] =
        [Media::Markdown, Media::Html, Media::Fragment, Media::Text, Media::Mdx, Media::Djot, Media::AsciiDoc, Media::Rst];
    let Some((first, rest)) = bytes.split_first() else { return };
    let media = MEDIA[usize::from(*first) % MEDIA.len()];
    let Ok(body) = clean::decode_page(rest, None) else { return };
    let url = "https://a.example/post.md".to_owned();
    let page = Page { key: url.clone(), url, media, body, hints: Hints::default() };
    if let Ok(document) = clean::page(&page, &CleanOptions { mask_private: true, ..CleanOptions::default() })
        && media == Media::Markdown
    {
        assert_eq!(exercise::clean_markdown(&document.text), document.text);
    }
});
