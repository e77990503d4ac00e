//! A feed or a sitemap: it is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twin_feature_pipeline::exercise;

fuzz_target!(|bytes: &[u8]| {
    let _ = (exercise::feed(bytes), exercise::sitemap(bytes));
});
