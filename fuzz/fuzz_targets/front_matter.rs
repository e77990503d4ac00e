//! Front matter: what is under it is the end of the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twin_feature_pipeline::exercise;

fuzz_target!(|text: &str| {
    assert!(text.ends_with(exercise::without_front_matter(text)));
});
