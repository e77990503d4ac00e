//! A file of every kind: a document, or a service's export.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twin_feature_pipeline::exercise;

fuzz_target!(|bytes: &[u8]| exercise::fuzz_export(bytes));
