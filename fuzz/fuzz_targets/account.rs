//! What a service's API answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twin_feature_pipeline::exercise;

fuzz_target!(|bytes: &[u8]| exercise::fuzz_account(bytes));
