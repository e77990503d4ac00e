//! The `twin` command. It resolves the configuration, wires the pipelines to the stores and prints; it decides nothing else.
//!
//! Exit codes: 0 done, 1 ran but did not pass, 2 could not run, 130 stopped by Ctrl-C.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use twin_domain::CancelFlag;

use crate::args::Arguments;
use crate::wiring::Wiring;

mod args;
mod commands;
mod config;
mod output;
mod progress;
mod telemetry;
mod wiring;

fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let verb = matches.subcommand_name().unwrap_or_default();
    let mut cancel = CancelFlag::new();
    let outcome = Wiring::new(&arguments.global, verb).and_then(|wiring| {
        cancel = wiring.cancel.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let _telemetry = telemetry::start(wiring.config.telemetry.otlp.as_deref(), runtime.handle())?;
        wiring.cancel_on_ctrl_c(&runtime);
        runtime.block_on(commands::run(&wiring, arguments.command))
    });
    let code = match outcome {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => 1,
        Err(error) => {
            output::error(&error);
            2
        }
    };
    ExitCode::from(if cancel.is_cancelled() { wiring::STOPPED } else { code })
}
