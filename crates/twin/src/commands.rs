//! One module a verb, each of which reads like what it does.

use clap::CommandFactory;

use crate::args::{Arguments, Command};
use crate::wiring::Wiring;

mod bench;
mod chat;
mod dataset;
mod doctor;
mod evaluate;
mod evaluation;
mod features;
mod forget;
mod ingest;
mod lineage;
mod mcp;
mod models;
mod quickstart;
mod registry;
mod release;
mod retrieve;
mod runs;
mod serve;
mod sources;
mod style;
mod sync;
mod train;
mod worker;

/// Runs a command. `false` means that it ran and did not pass.
pub async fn run(wiring: &Wiring, command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Quickstart(arguments) => quickstart::run(wiring, arguments).await,
        Command::Ingest(arguments) => ingest::run(wiring, arguments).await,
        Command::Sync(arguments) => sync::run(wiring, arguments).await,
        Command::Sources(arguments) => sources::run(wiring, arguments.command).await,
        Command::Worker(arguments) => worker::run(wiring, arguments).await,
        Command::Features(arguments) => features::run(wiring, arguments.command).await,
        Command::Retrieve(arguments) => retrieve::run(wiring, arguments).await,
        Command::Dataset(arguments) => dataset::run(wiring, arguments.command).await,
        Command::Train(arguments) => train::run(wiring, arguments).await,
        Command::Runs(arguments) => runs::run(wiring, &arguments.command),
        Command::Evaluate(arguments) => evaluate::run(wiring, &arguments.model),
        Command::Bench(arguments) => bench::run(wiring, arguments.command).await,
        Command::Style(arguments) => style::run(wiring, arguments.command).await,
        Command::Models(arguments) => models::run(wiring, arguments.command).await,
        Command::Registry(arguments) => registry::run(wiring, arguments.command).await,
        Command::Release(arguments) => release::run(wiring, arguments.command).await,
        Command::Lineage(arguments) => lineage::run(wiring, arguments).await,
        Command::Forget(arguments) => forget::run(wiring, arguments).await,
        Command::Serve(arguments) => serve::run(wiring, arguments.bind).await,
        Command::Mcp => mcp::run(wiring).await,
        Command::Chat(arguments) => chat::run(wiring, arguments).await,
        Command::Doctor => doctor::run(wiring).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "twin", &mut std::io::stdout());
            Ok(true)
        }
    }
}
