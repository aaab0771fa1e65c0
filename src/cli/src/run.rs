//! From an argument vector to an exit code: one function per command.

use std::ffi::OsString;

use anyhow::bail;

use crate::args::command::{HelpArgs, Level};
use crate::args::help::render_help;
use crate::args::{self, Command, Global, Invocation, Usage};
use crate::errors::{self, FAILURE, SUCCESS};
use crate::log::Log;
use crate::output;
use crate::output::version::render_version;

/// Runs the program and gives its exit code.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let Invocation { global, command } = args::parse(argv);
    let log = match Log::open(&global) {
        Ok(log) => log,
        Err(error) => {
            let error = anyhow::Error::new(error).context("cannot open the log that --log names");
            errors::report(&Log::to_stderr(&global), &error);
            return FAILURE;
        }
    };
    match command {
        Err(usage) => refuse(&global, &log, &usage),
        Ok(command) => dispatch(&global, &command).unwrap_or_else(|error| {
            errors::report(&log, &error);
            errors::failure_code(&command)
        }),
    }
}

/// Tells what is wrong with a command line: help on standard output, the reason where all reasons go.
fn refuse(global: &Global, log: &Log, usage: &Usage) -> u8 {
    let error = &usage.error;
    if log.is_human() {
        log.say(&errors::render_usage_for_people(global.program, usage));
    } else if error.is_answered_by_help() {
        let help = render_help(global.program, HelpArgs { verb: usage.verb, long: false });
        if let Err(unwritten) = output::print(&format!("Incorrect Usage: {error}\n\n{help}")) {
            log.debug(&errors::render_line(&unwritten));
        }
    }
    log.write(Level::Error, &error.to_string());
    errors::usage_code(error)
}

fn dispatch(global: &Global, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Version => print(&render_version(global.program)),
        Command::Help(help) => print(&render_help(global.program, *help)),
        _ => bail!("this build of {} has no engine", global.program.name()),
    }
}

fn print(text: &str) -> anyhow::Result<u8> {
    output::print(text)?;
    Ok(SUCCESS)
}
