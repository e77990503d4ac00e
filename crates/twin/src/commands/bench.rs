//! `twin bench`: how good the measures are, and what they say of models.

use crate::args::BenchCommand;
use crate::wiring::Wiring;

mod cheats;
pub(super) mod corpus;
mod extraction;
mod generate;
mod grounding;
mod judge;
mod retrieval;
mod style;
mod train;
mod verification;
mod withheld;

pub async fn run(wiring: &Wiring, command: BenchCommand) -> anyhow::Result<bool> {
    match command {
        BenchCommand::Cheats(arguments) => cheats::run(wiring, &arguments),
        BenchCommand::Extraction(arguments) => extraction::run(wiring, &arguments),
        BenchCommand::Generate(arguments) => generate::run(wiring, arguments).await,
        BenchCommand::Retrieval(arguments) => retrieval::run(wiring, arguments).await,
        BenchCommand::Grounding(arguments) => grounding::run(wiring, &arguments).await,
        BenchCommand::Style(arguments) => style::run(wiring, &arguments).await,
        BenchCommand::Train(arguments) => train::run(wiring, arguments).await,
        BenchCommand::Verification(arguments) => verification::run(wiring, &arguments),
    }
}
