//! The feature pipeline through its front door: [`twin_feature_pipeline::ingest`].

/// Services by user name, through their APIs.
mod accounts;
/// What every test needs: a store in memory, an embedder that counts, a run with few words.
mod bench;
/// Kill -9 and interruption at any moment, then again.
mod crash;
/// The page on which posts are brought, and the schedule.
mod desk;
/// Word processors' documents, books, PDFs, markup.
mod documents;
/// Export files of services, and zips.
mod exports;
/// Folders and files, good and bad.
mod folder;
/// Git repositories.
mod git;
/// Attacks.
mod hostile;
/// What holds for every input.
mod properties;
/// Real posts, feeds and pages, where they are at hand.
mod real_data;
/// JSON Lines files.
mod rows;
/// Sites: sitemaps, links, sync, kill and resume.
mod site;
/// The author's style before and after cleaning.
mod style;
/// Feature views: built beside each other, compared; vectors that are reused.
mod views;
/// Feeds and pages over HTTP.
mod web;
mod workers;
