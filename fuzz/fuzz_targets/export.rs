//! A file of every kind: a document, or a service's export that is one file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twin_feature_pipeline::exercise;

fuzz_target!(|bytes: &[u8]| {
    const NAMES: [&str; 9] =
        ["a.xml", "a.json", "a.csv", "a.mbox", "a.car", "tweets.js", "a.docx", "a.epub", "a.pdf"];
    let Some((first, rest)) = bytes.split_first() else { return };
    let _ = exercise::file(NAMES[usize::from(*first) % NAMES.len()], rest.to_owned());
});
