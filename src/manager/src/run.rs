//! From an argument vector to an exit code.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, FromArgMatches, Parser, Subcommand};

use crate::args::{Cli, Global, Verb};
use crate::ops;
use crate::output::tell;
use crate::places::Places;
use crate::rootless;
use crate::runtime::Runtime;
use crate::trace::{Clock, Trace};

/// The variable by which `skep` says where it is.
const PROGRAM: &str = "SKEP_PROGRAM";

/// What every verb works with.
#[derive(Debug)]
pub struct Manager {
    /// Where things are kept.
    pub places: Places,
    /// The runtime.
    pub runtime: Runtime,
}

/// Runs the program.
#[must_use]
pub fn main(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let cli = match parse(&argv) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version are no failure.
            return match error.print() {
                Ok(()) if !error.use_stderr() => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            };
        }
    };
    // What others have to read gets the mode that it is made with, whoever calls.
    sys::process::set_umask(0o022);
    match traced(cli, &argv) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line. The parser gives every option of all verbs to each verb that it knows, which is most of the work of
/// a short command: it is shown the one verb that the words name, and all of them when that fails, for the help and the errors.
fn parse(argv: &[OsString]) -> Result<Cli, clap::Error> {
    if let Some(verb) = named_verb(argv) {
        let command = Global::augment_args(clap::Command::new("skep")).subcommand(verb);
        if let Ok(matches) = command.try_get_matches_from(argv) {
            return Cli::from_arg_matches(&matches);
        }
    }
    Cli::try_parse_from(argv)
}

/// The first verb among the words.
fn named_verb(argv: &[OsString]) -> Option<clap::Command> {
    let verbs = Verb::augment_subcommands(clap::Command::new("skep"));
    argv.iter().skip(1).find_map(|word| verbs.find_subcommand(word)).cloned()
}

/// Tells one cause a line.
fn report(error: &anyhow::Error) {
    for (depth, cause) in error.chain().enumerate() {
        tell(&format!("{}{cause}", if depth == 0 { "error: " } else { "  caused by: " }));
    }
}

/// Performs a verb, and writes where its time went if that is wanted.
fn traced(cli: Cli, argv: &[OsString]) -> Result<ExitCode> {
    let Some(path) = &cli.global.trace else { return perform(cli, Clock::default()) };
    let trace = Trace::begin(path)?;
    let clock = trace.clock();
    let mark = clock.mark();
    let outcome = perform(cli, clock.clone());
    clock.spent("command", mark);
    let verb = named_verb(argv);
    let written = trace.finish(&format!("skep {}", verb.as_ref().map_or("", |verb| verb.get_name())));
    outcome.and_then(|code| written.map(|()| code))
}

fn perform(cli: Cli, clock: Clock) -> Result<ExitCode> {
    let given = cli.global.data.clone().filter(|data| !data.as_os_str().is_empty());
    let data = given.map_or_else(rootless::data_folder, Ok)?;
    let data = std::path::absolute(data).context("cannot tell the current folder")?;
    let manager = Manager { places: Places { data }, runtime: runtime(&cli.global, clock)? };
    // The hook runs within another command, which has recovered what there was.
    if !matches!(cli.verb, Verb::Connect { .. }) {
        let mark = manager.runtime.clock.mark();
        ops::recover(&manager);
        manager.runtime.clock.spent("recover", mark);
    }
    match cli.verb {
        Verb::Create(args) => ops::create::create(&manager, &args),
        Verb::Start(args) if args.foreground => return ops::follow::foreground(&manager, &args),
        Verb::Start(args) => ops::each(&args.names, |name| ops::start::start(&manager, name)),
        Verb::Restart(args) => ops::each(&args.names, |name| ops::stop::restart(&manager, name, args.time)),
        Verb::Wait(args) => return ops::follow::wait(&manager, &args),
        Verb::Logs(args) => ops::follow::logs(&manager, &args),
        Verb::Console(args) => ops::console::console(&manager, &args),
        Verb::Attach(args) => ops::attach::attach(&manager, &args),
        Verb::Info(args) => ops::info::info(&manager, &args),
        Verb::Status(args) => ops::status::status(&manager, &args),
        Verb::Top(args) => ops::top::top(&manager, &args),
        Verb::Doctor(args) => return ops::doctor::doctor(&manager, &args),
        Verb::Autostart(args) => ops::autostart::autostart(&manager, &args),
        Verb::Config(verb) => ops::config::config(&manager, &verb),
        Verb::Checkconfig(args) => return ops::checkconfig::checkconfig(&manager, &args),
        Verb::Edit(args) => ops::config::edit(&manager, &args),
        Verb::Freeze(args) => ops::each(&args.names, |name| ops::freeze::set_frozen(&manager, name, true)),
        Verb::Unfreeze(args) => ops::each(&args.names, |name| ops::freeze::set_frozen(&manager, name, false)),
        Verb::Cgroup(verb) => ops::cgroup::cgroup(&manager, &verb),
        Verb::Device(verb) => ops::device::device(&manager, &verb),
        Verb::Mount(verb) => ops::mount::mount(&manager, &verb),
        Verb::Monitor(args) => ops::monitor::monitor(&manager, &args),
        Verb::Ended(args) => ops::ended::ended(&manager, &args),
        Verb::Again(args) => ops::ended::again(&manager, &args),
        Verb::Stop(args) => ops::each(&args.names, |name| ops::stop::stop(&manager, name, args.time)),
        Verb::Destroy(args) => ops::each(&args.names, |name| ops::destroy::destroy(&manager, name, args.force)),
        Verb::Ls(args) => ops::list::list(&manager, &args),
        Verb::Network(verb) => ops::network::network(&manager, &verb),
        Verb::Image(verb) => ops::image::image(&manager, &verb),
        Verb::Snapshot(args) => ops::snapshot::snapshot(&manager, &args),
        Verb::Restore(args) => ops::snapshot::restore(&manager, &args),
        Verb::Copy(args) => ops::copy::copy(&manager, &args),
        Verb::Rename(args) => ops::copy::rename(&manager, &args),
        Verb::Diff(args) => ops::diff::diff(&manager, &args),
        Verb::Export(args) => ops::export::export(&manager, &args),
        Verb::Refresh(args) => ops::refresh::refresh(&manager, &args),
        Verb::Gc(args) => ops::gc::gc(&manager, &args),
        Verb::Connect { name } => ops::network::connect_process(&manager, &name),
        Verb::Template(args) => ops::template::template(&manager, &args),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// The runtime with the options that it was called with.
fn runtime(global: &Global, clock: Clock) -> Result<Runtime> {
    let program = match std::env::var_os(PROGRAM) {
        Some(program) => PathBuf::from(program),
        None => std::env::current_exe().context("cannot tell where this program is")?.with_file_name("skep"),
    };
    let mut options = Vec::new();
    // A monitor calls the runtime from a folder of its own.
    let root = match &global.root {
        Some(root) => Some(std::path::absolute(root).context("cannot tell the current folder")?.display().to_string()),
        None => None,
    };
    for (name, value) in [
        ("--root", &root),
        ("--log-level", &global.log_level),
        ("--cgroup-manager", &global.cgroup_manager),
        ("--rootless", &global.rootless),
    ] {
        if let Some(value) = value {
            options.extend([name.to_owned(), value.clone()]);
        }
    }
    if global.systemd_cgroup {
        options.push("--systemd-cgroup".to_owned());
    }
    Ok(Runtime { program, options, clock })
}
