//! Times whole commands of OCI runtimes against each other, as `make bench` runs it.
//!
//! All runtimes run the same bundle. Every round visits them in a new random order, so that whatever else the machine does
//! falls on all of them alike; what is compared are medians of one run, never figures of two runs. Both modes count: with
//! an idle gap before each command, as in life, and back to back, where the kernel hides some waits.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod budget;
mod bundle;
mod cases;
mod counts;
mod docker;
mod footprint;
mod inside;
mod machine;
mod net;
mod plot;
mod report;
mod rounds;
mod runtime;
mod sample;
mod systems;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use budget::{Budgets, judge_case, judge_counts};
use cases::{CASES, Case, Settings};
use counts::{Counts, Kind};
use inside::{INSIDE, Inside};
use report::Report;
use rounds::Rounds;
use runtime::Runtime;
use sample::Order;

/// What is measured besides time, by the name that the filter takes.
const FOOTPRINT: &str = "footprint";

/// Times whole commands of OCI runtimes against each other.
#[derive(Parser)]
#[command(name = "bench", disable_version_flag = true)]
struct Arguments {
    /// A runtime as NAME=PATH or NAME=PATH WITH OPTIONS; the first one is what the others are compared with
    #[arg(long = "runtime", value_name = "NAME=COMMAND", required = true)]
    runtimes: Vec<String>,
    /// Leaves out crun and runc unless they are named; else they are taken from CRUN, RUNC or the PATH
    #[arg(long)]
    no_peers: bool,
    /// Rounds of each case
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Idle time before each isolated command, in milliseconds
    #[arg(long, default_value_t = 100)]
    gap: u64,
    /// Containers of each runtime that exist while `list` is timed
    #[arg(long, default_value_t = 100)]
    containers: usize,
    /// The folder of the small programs that memory and work inside are measured with, as `.ci/build bench` makes it
    #[arg(long, value_name = "DIR", default_value = "dist/bench")]
    tools: PathBuf,
    /// Also writes what is printed, and a drawing of it, to files of today's date in DIR
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Runs the cases of the budgets in FILE alone, with the runtimes that they name, and fails where one is broken
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Containers that run for long instead, against Debian's LXC (root): --containers of them are started, entered, listed and stopped
    #[arg(long)]
    systems: bool,
    /// Only the cases whose name contains this
    filter: Option<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what is wanted; returns whether all budgets are kept.
fn run(arguments: &Arguments) -> Result<bool> {
    let work = tempfile::Builder::new().prefix("bench-").tempdir().context("cannot make a temporary folder")?;
    let budgets = read_budgets(arguments)?;
    let mut report = Report::default();
    report.tell(&machine::describe());
    let (good, mut report) = if arguments.systems {
        let first = arguments.runtimes.first().context("no runtime")?;
        let skep = parse_runtime(first, work.path())?;
        let gap = std::time::Duration::from_millis(arguments.gap);
        systems::run(skep, work.path(), (arguments.containers, arguments.rounds, gap), &mut report)?;
        (true, report)
    } else {
        run_cases(arguments, budgets.as_ref(), work.path(), report)?
    };
    report.tell(&machine::describe_load("at the end"));
    if let Some(dir) = &arguments.save {
        report.save(dir, if arguments.systems { "-systems" } else { "" })?;
    }
    Ok(good)
}

fn read_budgets(arguments: &Arguments) -> Result<Option<Budgets>> {
    let cases: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    let named: Vec<&str> = arguments.runtimes.iter().filter_map(|text| text.split_once('=')).map(|(n, _)| n).collect();
    arguments.check.as_deref().map(|path| Budgets::read(path, &cases, &named)).transpose()
}

fn run_cases(
    arguments: &Arguments,
    budgets: Option<&Budgets>,
    work: &Path,
    mut report: Report,
) -> Result<(bool, Report)> {
    let runtimes = find_runtimes(arguments, budgets, work, &mut report)?;
    let filter = arguments.filter.as_deref().unwrap_or("");
    let is_wanted = |case: &&Case| {
        case.name.contains(filter) && budgets.is_none_or(|budgets| !budgets.of_case(case.name).is_empty())
    };
    let wanted: Vec<&Case> = CASES.iter().filter(is_wanted).collect();
    let footprint = FOOTPRINT.contains(filter) && budgets.is_none();
    let inside = INSIDE.iter().filter(|inside| inside.name.contains(filter) && budgets.is_none());
    let inside: Vec<&Inside> = inside.collect();
    let is_counted =
        |kind: &Kind| kind.name().contains(filter) && budgets.is_none_or(|budgets| !budgets.counts(*kind).is_empty());
    let counted: Vec<Kind> = [Kind::SystemCalls, Kind::Instructions].into_iter().filter(is_counted).collect();
    if wanted.is_empty() && inside.is_empty() && counted.is_empty() && !footprint {
        bail!("no case is called {filter:?}");
    }
    let network = net::Network::make().map_err(|error| report.tell(&format!("# no network: {error:#}\n"))).ok();
    let bundles = bundle::prepare(work, &runtimes[0], network)?;
    let settings =
        Settings { bundles, gap: std::time::Duration::from_millis(arguments.gap), containers: arguments.containers };
    let mut rounds = Rounds { runtimes, settings, rounds: arguments.rounds, order: Order::from_clock(), report };
    rounds.report.tell(&head(arguments, &rounds));
    let mut good = true;
    for case in wanted {
        let budgets = budgets.map(|budgets| budgets.of_case(case.name)).unwrap_or_default();
        good &= check_case(&mut rounds, case, &budgets);
    }
    for kind in counted {
        good &= count(&mut rounds, kind, budgets, work, &arguments.tools)?;
    }
    for inside in inside {
        inside::run(inside, &mut rounds, &arguments.tools.join("work"));
    }
    if footprint {
        let text = footprint::render(&rounds.runtimes, &rounds.settings.bundles, &arguments.tools.join("peak"));
        rounds.report.tell(&text);
    }
    Ok((good, rounds.report))
}

/// Measures a case and judges its budgets.
fn check_case(rounds: &mut Rounds, case: &Case, budgets: &[&budget::Budget]) -> bool {
    let cell = std::cell::RefCell::new(rounds);
    let mut measure = |announcement: &str| {
        let mut rounds = cell.borrow_mut();
        rounds.report.tell(announcement);
        rounds.run_case(case)
    };
    judge_case(budgets, &mut measure, &mut |text| cell.borrow_mut().report.tell(text))
}

/// Counts what repeats, and judges the first runtime's counts where there are budgets. Returns whether all are kept.
fn count(rounds: &mut Rounds, kind: Kind, budgets: Option<&Budgets>, work: &Path, tools: &Path) -> Result<bool> {
    let first = rounds.runtimes[0].program();
    let lacking = find_in_path(kind.tool()).is_none().then(|| format!("{} is not here", kind.tool()));
    if let Some(reason) = lacking.or_else(|| budgets.and_then(|_| counts::unfit(first))) {
        rounds.report.tell(&format!("\n{}: not measured: {reason}\n", kind.name()));
        return Ok(true);
    }
    // callgrind repeats for a program that is built here; others' are of their packages.
    let only_first = budgets.is_some() || kind == Kind::Instructions;
    let runtimes = if only_first { &rounds.runtimes[..1] } else { &rounds.runtimes[..] };
    let counted: Vec<Result<Counts>> =
        runtimes.iter().map(|runtime| counts::count(kind, runtime, &rounds.settings.bundles, work, tools)).collect();
    let names: Vec<&str> = runtimes.iter().map(|runtime| runtime.name.as_str()).collect();
    let text = counts::render(kind, &names, &counted);
    rounds.report.tell(&text);
    let Some((budgets, own)) = budgets.zip(counted.into_iter().next()) else { return Ok(true) };
    let own = own.map_err(|error| format!("{error:#}"));
    let hierarchies = counts::v1_hierarchies()?;
    Ok(judge_counts(budgets, kind, &own, hierarchies, &mut |text| rounds.report.tell(text)))
}

fn head(arguments: &Arguments, rounds: &Rounds) -> String {
    let mut text = String::new();
    for runtime in &rounds.runtimes {
        text += &format!("# {}: {} ({})\n", runtime.name, runtime.command_line(), runtime.version());
    }
    let (count, gap, many) = (arguments.rounds, arguments.gap, arguments.containers);
    text += &format!(
        "# {count} rounds, {gap} ms idle in isolated cases, {many} containers of each for `list`, order seed {}\n",
        rounds.order.seed()
    );
    let words: Vec<String> = std::env::args().skip(1).collect();
    text + &format!("# bench {}\n", words.join(" "))
}

/// Those that are named, then crun and runc where they are found. With budgets only the first one and those that they name.
fn find_runtimes(
    arguments: &Arguments,
    budgets: Option<&Budgets>,
    work: &Path,
    report: &mut Report,
) -> Result<Vec<Runtime>> {
    let is_wanted = |name: &str| budgets.is_none_or(|budgets| budgets.names(name));
    let mut runtimes = Vec::new();
    for text in &arguments.runtimes {
        let runtime = parse_runtime(text, work)?;
        if runtimes.is_empty() || is_wanted(&runtime.name) {
            runtimes.push(runtime);
        }
    }
    for peer in ["crun", "runc"] {
        if arguments.no_peers || !is_wanted(peer) || runtimes.iter().any(|runtime| runtime.name == peer) {
            continue;
        }
        match std::env::var_os(peer.to_uppercase()).map(PathBuf::from).or_else(|| find_in_path(peer)) {
            Some(path) => runtimes.push(Runtime::new(peer, &path.to_string_lossy(), work)?),
            None => report.tell(&format!("# {peer}: not here\n")),
        }
    }
    Ok(runtimes)
}

fn parse_runtime(text: &str, work: &Path) -> Result<Runtime> {
    let (name, command) = text.split_once('=').with_context(|| format!("{text:?} is not NAME=COMMAND"))?;
    Runtime::new(name, command, work)
}

fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}
