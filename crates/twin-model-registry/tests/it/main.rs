//! The model registry from outside.

/// What is changed on the disk is seen and named.
mod damage;
/// Candidates that the tests share.
mod fixture;
/// Nothing is seen in part when the process is killed.
mod kill;
/// Several processes and threads at once.
mod together;
