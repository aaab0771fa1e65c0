//! Times whole commands of OCI runtimes against each other, as `make bench` runs it.
//!
//! All runtimes run the same bundle. Every round visits them in a new random order, so that whatever else the machine does
//! falls on all of them alike; what is compared are medians of one run, never figures of two runs. Both modes count: with
//! an idle gap before each command, as in life, and back to back, where the kernel hides some waits.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod budget;
mod bundle;
mod cases;
mod footprint;
mod machine;
mod plot;
mod runtime;
mod sample;
mod systems;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use budget::{Budget, Budgets, Verdict};
use cases::{CASES, Case, Settings};
use plot::Group;
use runtime::Runtime;
use sample::{Order, Samples, medians, render};

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
    /// Containers of each runtime that exist while `list` and `run-among-many` are timed
    #[arg(long, default_value_t = 100)]
    containers: usize,
    /// Also writes what is printed, and a drawing of it, to files of today's date in DIR
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Runs the cases of the budgets in FILE alone, and fails where one is broken
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Containers that run for long instead, against Debian's LXC (root): --containers of them are started, entered, listed and stopped
    #[arg(long)]
    systems: bool,
    /// Only the cases whose name contains this
    filter: Option<String>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|first| first == footprint::PEAK_OF) {
        return finish(footprint::print_peak(&words[1..]).map(|peak| {
            println!("{peak}");
            true
        }));
    }
    finish(run(&Arguments::parse()))
}

fn finish(outcome: Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is printed, and kept to be saved.
#[derive(Default)]
struct Report {
    text: String,
    groups: Vec<Group>,
}

impl Report {
    fn tell(&mut self, text: &str) {
        print!("{text}");
        self.text += text;
    }

    fn save(&self, dir: &Path) -> Result<()> {
        let (date, _) = machine::now();
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for (ending, text) in
            [("txt", &self.text), ("svg", &plot::render(&format!("skep and others, {date}"), &self.groups))]
        {
            let path = dir.join(format!("{date}.{ending}"));
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            println!("# written: {}", path.display());
        }
        Ok(())
    }
}

/// Runs what is wanted; returns whether all budgets are kept.
fn run(arguments: &Arguments) -> Result<bool> {
    let budgets = arguments.check.as_deref().map(Budgets::read).transpose()?;
    let work = tempfile::Builder::new().prefix("bench-").tempdir().context("cannot make a temporary folder")?;
    if arguments.systems {
        print!("{}", machine::describe());
        let (_, skep) = arguments.runtimes[0].split_once('=').context("--runtime is NAME=COMMAND")?;
        println!("# skep: {skep}; {} rounds of lists", arguments.rounds);
        systems::run(skep, work.path(), arguments.containers, arguments.rounds)?;
        print!("{}", machine::describe_load("at the end"));
        return Ok(true);
    }
    let runtimes = find_runtimes(arguments, work.path())?;
    let bundles = bundle::prepare(work.path(), &runtimes[0])?;
    let settings =
        Settings { bundles, gap: std::time::Duration::from_millis(arguments.gap), containers: arguments.containers };
    let mut order = Order::from_clock();
    let mut report = Report::default();
    report.tell(&head(arguments, &runtimes, &order));
    let filter = arguments.filter.as_deref().unwrap_or("");
    let is_budgeted = |case: &Case| budgets.as_ref().is_none_or(|budgets| budgets.of_case(case.name).next().is_some());
    let wanted: Vec<&Case> = CASES.iter().filter(|case| case.name.contains(filter) && is_budgeted(case)).collect();
    let footprint = FOOTPRINT.contains(filter) && budgets.is_none();
    if wanted.is_empty() && !footprint {
        bail!("no case is called {filter:?}");
    }
    let mut kept = true;
    for case in wanted {
        let samples = run_case(case, &runtimes, &settings, arguments.rounds, &mut order, &mut report);
        for budget in budgets.iter().flat_map(|budgets| budgets.of_case(case.name)) {
            let again = |report: &mut Report, order: &mut Order| {
                run_case(case, &runtimes, &settings, arguments.rounds, order, report)
            };
            kept &= judge(budget, &samples, &mut report, &mut order, again);
        }
    }
    if footprint {
        report.tell(&footprint::render(&runtimes, &settings.bundles, work.path()));
    }
    report.tell(&machine::describe_load("at the end"));
    if let Some(dir) = &arguments.save {
        report.save(dir)?;
    }
    Ok(kept)
}

fn head(arguments: &Arguments, runtimes: &[Runtime], order: &Order) -> String {
    let mut text = machine::describe();
    for runtime in runtimes {
        text += &format!("# {}: {} ({})\n", runtime.name, runtime.command_line(), runtime.version());
    }
    let (rounds, gap, many) = (arguments.rounds, arguments.gap, arguments.containers);
    text += &format!(
        "# {rounds} rounds, {gap} ms idle in isolated cases, {many} containers of each where many exist, order seed {}\n",
        order.seed()
    );
    let words: Vec<String> = std::env::args().skip(1).collect();
    text + &format!("# bench {}\n", words.join(" "))
}

/// Judges a budget; one that is broken is measured once more, so that a moment's noise breaks none.
fn judge(
    budget: &Budget,
    samples: &[Samples],
    report: &mut Report,
    order: &mut Order,
    again: impl FnOnce(&mut Report, &mut Order) -> Vec<Samples>,
) -> bool {
    let mut verdict = budget.judge(samples);
    report.tell(&budget.render(verdict));
    if matches!(verdict, Verdict::Broken(_)) {
        report.tell("  once more:\n");
        verdict = budget.judge(&again(report, order));
        report.tell(&budget.render(verdict));
    }
    !matches!(verdict, Verdict::Broken(_))
}

/// Runs a case in rounds. A runtime that fails is left out of the rest of the case, and the reason is printed.
fn run_case(
    case: &Case,
    runtimes: &[Runtime],
    settings: &Settings,
    rounds: usize,
    order: &mut Order,
    report: &mut Report,
) -> Vec<Samples> {
    let mut samples: Vec<Samples> = runtimes.iter().map(|runtime| Samples::new(&runtime.name)).collect();
    if !(case.needs)(settings) {
        report.tell(&format!("\n{}: left out, this machine lacks what it needs\n", case.name));
        return samples;
    }
    report.tell(&format!("\n{}: {}\n", case.name, case.about));
    for (at, runtime) in runtimes.iter().enumerate() {
        // One round unmeasured: it warms the page cache and shows whether the case works at all.
        if let Err(error) = (case.set_up)(runtime, settings).and_then(|()| (case.round)(runtime, settings)) {
            report.tell(&format!("  {} left out: {error:#}\n", runtime.name));
            samples[at].failed = true;
        }
    }
    for _ in 0..rounds {
        for at in order.shuffle(runtimes.len()) {
            if samples[at].failed {
                continue;
            }
            match (case.round)(&runtimes[at], settings) {
                Ok(values) => samples[at].add(&values),
                Err(error) => {
                    report.tell(&format!("  {} left out: {error:#}\n", runtimes[at].name));
                    samples[at].failed = true;
                }
            }
        }
    }
    for runtime in runtimes {
        if let Err(error) = runtime.delete_all() {
            report.tell(&format!("  {}: cannot clean up: {error:#}\n", runtime.name));
        }
    }
    report.tell(&render(&samples));
    report.groups.extend(medians(&samples).into_iter().map(|(command, bars)| {
        let title = if command == "run" { case.name.to_owned() } else { format!("{}: {command}", case.name) };
        Group { title, bars }
    }));
    samples
}

fn find_runtimes(arguments: &Arguments, work: &Path) -> Result<Vec<Runtime>> {
    let mut runtimes = Vec::new();
    for text in &arguments.runtimes {
        let (name, command) = text.split_once('=').with_context(|| format!("{text:?} is not NAME=COMMAND"))?;
        runtimes.push(Runtime::new(name, command, work)?);
    }
    if arguments.no_peers {
        return Ok(runtimes);
    }
    for peer in ["crun", "runc"] {
        let named = runtimes.iter().any(|runtime| runtime.name == peer);
        let found = std::env::var_os(peer.to_uppercase()).map(PathBuf::from).or_else(|| find_in_path(peer));
        match found {
            Some(path) if !named => runtimes.push(Runtime::new(peer, &path.to_string_lossy(), work)?),
            None if !named => println!("# {peer}: not here"),
            _ => {}
        }
    }
    Ok(runtimes)
}

fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}
