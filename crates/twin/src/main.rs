//! The `twin` command. It resolves the configuration, wires the pipelines to the stores and prints; it decides nothing else.
//!
//! Exit codes: 0 done, 1 ran but did not pass, 2 could not run, 130 stopped by Ctrl-C.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use tracing_subscriber::EnvFilter;

use crate::args::Arguments;
use crate::wiring::Wiring;

mod args;
mod commands;
mod config;
mod output;
mod progress;
mod wiring;

/// What is logged unless `TWIN_LOG` says otherwise. The embedded engine warns of switches that only its server sets, the HTML
/// writer of every element that was made without a namespace; what the hub's client cannot do is in the errors it returns.
const LOGGED: &str = "warn,qdrant_edge=error,html5ever=error,hf_hub=off";

fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let verb = matches.subcommand_name().unwrap_or_default();
    let filter = EnvFilter::try_from_env("TWIN_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = Wiring::new(&arguments.global, verb).and_then(|wiring| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        wiring.cancel_on_ctrl_c(&runtime);
        runtime.block_on(commands::run(&wiring, arguments.command))
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            output::error(&error);
            ExitCode::from(2)
        }
    }
}
