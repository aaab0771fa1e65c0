//! The tools of LXC (`lxc-start`, `lxc-ls`, …) as scripts know them, for containers of `skep`.
//!
//! `skep` hands over to this program when it is called by the name of such a tool, or as `skep lxc-ls …`. A container is a
//! folder with a `config` below the path of containers (`-P`, /var/lib/lxc); each start reads it anew, as LXC does, by
//! `skep create --lxc-config`. All that runs in a container is `skep`'s: this program drives it by its command line and its
//! JSON, and reads counters. It makes namespaces for the two tools alone that are for that and for no container.
//!
//! ```text
//! argv -> options (a table for each tool) -> tools/* ──► places: which containers there are, what their configs say
//!                                                   ├──► clone: a container from another
//!                                                   ├──► skep: create, start, stop, state, exec, …
//!                                                   ├──► changes: what skep monitor tells
//!                                                   └──► usage: what they use
//! ```

pub mod changes;
pub mod clone;
pub mod options;
pub mod output;
pub mod places;
pub mod skep;
pub mod tools;
pub mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::options::Outcome;
use crate::skep::Skep;
use crate::tools::TOOLS;

/// The version of LXC whose tools these behave as.
const VERSION: &str = "5.0.2";

/// Runs the program.
#[must_use]
pub fn main(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let argv: Vec<String> = argv.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let is_tool = |arg: &String| arg.rsplit('/').next().is_some_and(|name| name.starts_with("lxc-"));
    // Called by a tool's own name, or by `skep` with options of its own before the tool's name.
    let Some(at) = argv.iter().position(is_tool) else {
        output::tell("skep-lxc: it is called by the name of a tool, such as lxc-ls\n");
        return ExitCode::FAILURE;
    };
    let called = argv[at].rsplit('/').next().unwrap_or_default();
    let Some(tool) = TOOLS.iter().find(|tool| tool.is_called(called)) else {
        output::tell(&format!("{called}: skep has no such tool\n"));
        return ExitCode::FAILURE;
    };
    let options = if at == 0 { Vec::new() } else { argv[1..at].to_vec() };
    match options::parse(tool, &argv[at + 1..]) {
        Outcome::Print(text) => match output::write(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Outcome::Refuse(text) => {
            output::tell(&text);
            ExitCode::FAILURE
        }
        Outcome::Run(call) => match (tool.run)(&Skep::found(options), &call) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                call.tell(&format!("{error:#}"));
                ExitCode::FAILURE
            }
        },
    }
}
