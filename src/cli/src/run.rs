//! From an argument vector to an exit code: one function per command.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, bail};
use engine::clock;
use runtime_spec::timeline::Timeline;

use crate::args::command::{CheckArgs, FeaturesArgs, HelpArgs, Level, SpecArgs};
use crate::args::help::render_help;
use crate::args::{self, Command, Global, Invocation, Usage};
use crate::bundle::{self, bundle_dir, read_bundle};
use crate::caller::{self, Caller};
use crate::errors::{self, FAILURE, SUCCESS};
use crate::log::Log;
use crate::output::features::render_features;
use crate::output::version::render_version;
use crate::output::{self, check, host};
use crate::trace::Trace;
use crate::{containers, manager, protect};

/// Runs the program and gives its exit code.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let began = clock::now();
    let Invocation { global, verb, command } = args::parse(argv);
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
        Ok(command) => dispatch(&global, &log, &command, (verb, began)).unwrap_or_else(|error| {
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
    errors::usage_code(usage)
}

fn dispatch(global: &Global, log: &Log, command: &Command, (verb, began): (&str, Duration)) -> anyhow::Result<u8> {
    protect_if_needed(command, global.trace.as_ref().map(|_| began))?;
    match command {
        Command::Lxc => match manager::hand_over(manager::LXC)? {},
        Command::Svc => match manager::hand_over(manager::SUPERVISOR)? {},
        Command::Managed => match manager::hand_over(manager::MANAGER)? {},
        Command::Start(id) if manager::defines(global, id) && !containers::waits_for_start(global, log, id)? => {
            match manager::hand_over(manager::MANAGER)? {}
        }
        command => {
            let trace = Trace::begin(global, verb, began)?;
            let outcome = perform(global, log, command, trace.as_ref().map(|trace| &trace.timeline));
            match trace.map(Trace::finish) {
                Some(Err(error)) if outcome.is_ok() => Err(error).context("cannot write the trace"),
                _ => outcome,
            }
        }
    }
}

fn perform(global: &Global, log: &Log, command: &Command, timeline: Option<&Timeline>) -> anyhow::Result<u8> {
    match command {
        Command::Version => print(&render_version(global.program)),
        Command::Help(help) => print(&render_help(global.program, *help)),
        Command::Features(args) => features(*args),
        Command::Spec(args) => spec(args),
        Command::Check(args) => check(args),
        _ => containers::perform(global, log, command, timeline),
    }
}

/// Whoever enters a container runs from a copy of the program that nobody can write to.
fn protect_if_needed(command: &Command, traced_from: Option<Duration>) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => protect::protect(caller::kept_fds(&args.handover), traced_from),
        Command::Run(args) => protect::protect(caller::kept_fds(&args.create.handover), traced_from),
        Command::Exec(args) => protect::protect(args.handover.preserve_fds, traced_from),
        _ => Ok(()),
    }
}

/// Tells what this build supports, or what this host offers.
fn features(args: FeaturesArgs) -> anyhow::Result<u8> {
    if !args.host {
        return print(&render_features()?);
    }
    let systemd = Caller::probe()?.systemd()?;
    let offer = engine::offer::probe(&sys::ProcFs::open()?, &systemd, caller::find_program)?;
    print(&if args.json { host::render_document(&offer)? } else { host::render_text(&offer) })
}

/// Writes a definition to start from; one that is there already stays.
fn spec(args: &SpecArgs) -> anyhow::Result<u8> {
    let caller = Caller::probe()?;
    let path = caller.absolute(&format!("{}/{}", bundle_dir(&caller, args.bundle.as_deref()), bundle::CONFIG));
    let unified = has_unified_cgroups()?;
    let config = if args.rootless {
        let (uid, gid) = (sys::process::effective_uid(), sys::process::effective_gid());
        runtime_spec::example::rootless(unified, uid, gid)
    } else {
        runtime_spec::example::example(unified)
    };
    let text = output::render_json_indented(&config, "\t")? + "\n";
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("file {path} exists: remove it first"),
        other => other.with_context(|| format!("cannot create {path}"))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {path}"))?;
    Ok(SUCCESS)
}

/// Whether this host has cgroup v2 alone: what is mounted at the usual place is then of that kind.
fn has_unified_cgroups() -> anyhow::Result<bool> {
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    match sys::fs::open_dir("/sys/fs/cgroup") {
        Ok(dir) => Ok(sys::fs::statfs(dir.as_fd())?.f_type as i64 == CGROUP2_SUPER_MAGIC),
        Err(error) if error.is(sys::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Tells everything that is wrong with a bundle.
fn check(args: &CheckArgs) -> anyhow::Result<u8> {
    let bundle = read_bundle(&Caller::probe()?, args.bundle.as_deref(), args.config.as_deref())?;
    let findings = runtime_spec::load(&bundle.bytes).findings;
    let text = if args.json {
        check::render_document(&bundle.config, &findings)?
    } else {
        check::render_text(&bundle.config, &findings)
    };
    output::print(&text)?;
    Ok(if check::has_errors(&findings) { FAILURE } else { SUCCESS })
}

fn print(text: &str) -> anyhow::Result<u8> {
    output::print(text)?;
    Ok(SUCCESS)
}
