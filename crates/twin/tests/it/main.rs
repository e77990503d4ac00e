//! The `twin` command through its front door, and what must hold for the workspace as a whole.

mod arrows;
mod features;
mod retrieval_bench;
mod settings;
mod stopping;
