//! The model registry from outside.

/// Stages, tags, notes, clean-up, and registries of other programs.
mod annotations;
/// The process ends at every step, one after the other.
mod crash_points;
/// What is changed on the disk is seen and named.
mod damage;
/// Candidates that the tests share.
mod fixture;
/// Pushing to and pulling from a server that speaks the Hub's API, and what Python makes of it.
mod hub;
/// That server.
mod hub_server;
/// Nothing is seen in part when the process is killed.
mod kill;
/// Lists of many versions.
mod many;
/// Splits, shadows, rollbacks, and clocks.
mod releases;
/// Several processes and threads at once.
mod together;
