//! The feature store from outside.

/// What every feature store must do, run for each of them.
mod contract;
/// What is wrong on the disk is seen and said.
mod damage;
/// Authors, documents and chunks that the tests share.
mod fixture;
/// Nothing acknowledged is lost when the process is killed.
mod kill;
/// One process at a time.
mod locking;
/// Figures: how long loading and querying take, and the mean length of real chunks. Not timed tests.
mod measure;
/// A Qdrant server to test against.
mod qdrant;
/// A server that goes away, refuses, or has what is not ours.
mod server;
#[cfg(unix)]
mod shared;
/// Views are switched under load.
mod switching;
/// Training sets on the disk.
mod training_sets;
/// A view moves from one engine to the other.
mod transfer;
