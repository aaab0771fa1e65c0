//! The conformance suites of the field, from checkouts that the user has fetched: the validation programs of
//! opencontainers/runtime-tools, the bats tests of runc and the Python tests of crun.
//!
//! They run on this machine and in the virtual one, with `RUNTIME` (skep as it is built) as the runtime. It is no part of
//! `make test`: the sources are others', of whatever version somebody fetched, and nothing of them is in the tree. What is
//! known of skep's results is in `integration/conformance/known.toml`.

mod known;
mod suites;
mod tap;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::vm::Guest;
use known::{Known, Leave};
use suites::{SUITES, Suite};
use tap::{Status, Test};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with the checkouts runtime-tools, runc and crun; those that are there are run
    dir: PathBuf,
    /// Where: native, vm-v2, vm-v1, vm-hybrid, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "native,vm-v2,vm-v1,vm-hybrid")]
    boot: Vec<String>,
    /// These alone, also those that a lane leaves out: SUITE or SUITE/PROGRAM, separated by commas, such as runc/update
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Another runtime, which then runs what has a failure, in the same lane: each failure tells whether it shares it
    #[arg(long, value_name = "PATH")]
    oracle: Option<PathBuf>,
    /// How long each run of the virtual machine may take; what has not ended by then has no result
    #[arg(long, value_name = "NUMBER", default_value_t = 60)]
    minutes: u64,
}

/// The lane that is this machine.
const NATIVE: &str = "native";

/// How long one program may take here; the longest, runc's `cgroups`, takes about a minute.
const NATIVE_SECONDS: u32 = 600;

/// And in the virtual machine, where a process starts 10 to 40 times slower.
const VM_SECONDS: u32 = 900;

/// How many programs one run of the virtual machine has at most: one that dies takes only these with it.
const GROUP: usize = 60;

/// bats starts hundreds of processes for a test, and its files are the longest.
const RUNC_GROUP: usize = 8;

/// Programs whose results depend on systemd's driver; they run a second time with it, where systemd is the first process.
const WITH_SYSTEMD: [(Suite, &[&str]); 2] = [
    (Suite::Runc, &["cgroup_delegation", "cgroups", "delete", "dev", "events", "update"]),
    (Suite::Crun, &["test_cgroup_setup", "test_cgroup_resources", "test_delete", "test_resources", "test_update"]),
];

const SCRIPT: &str = include_str!("steps.sh");

/// One program of a suite to run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    suite: Suite,
    /// The suite's name, with `-systemd` where that driver is used.
    label: String,
    program: String,
    /// Tests that it leaves out.
    without: Vec<String>,
}

/// What became of one program.
struct Outcome {
    label: String,
    program: String,
    tests: Vec<Test>,
}

/// The oracle's results: by suite, program and test.
type Judgement = BTreeMap<(String, String, String), Status>;

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let found: Vec<Suite> = SUITES.into_iter().filter(|suite| options.dir.join(suite.name()).is_dir()).collect();
    ensure!(
        !found.is_empty(),
        "{} has none of the folders {}",
        options.dir.display(),
        SUITES.map(Suite::name).join(", ")
    );
    let wanted = |suite: &Suite| {
        let of_suite = |only: &String| only.split('/').next().unwrap_or_default().starts_with(suite.name());
        options.only.is_empty() || options.only.iter().any(of_suite)
    };
    let found: Vec<Suite> = found.into_iter().filter(wanted).collect();
    let missing = suites::list_missing(&found);
    ensure!(missing.is_empty(), "the suites need {}", missing.join(", "));
    let runtime = std::env::var_os("RUNTIME").filter(|value| !value.is_empty());
    let runtime = runtime.map_or_else(|| root.join("dist/bin/skep"), PathBuf::from);
    let run = Run {
        store: root.join("target/conformance"),
        checkouts: &options.dir,
        runtime: &runtime,
        guest_limit: Duration::from_secs(60 * options.minutes),
    };
    fs::create_dir_all(&run.store).with_context(|| format!("cannot make {}", run.store.display()))?;
    for suite in &found {
        println!("building what {} needs", suite.name());
        suite.build(&options.dir.join(suite.name()), &run.store)?;
    }
    // The list is about skep; another runtime is the judge of the list.
    let own = runtime.file_name().is_some_and(|name| name == "skep");
    let known = if own { Known::read(&root.join("integration/conformance/known.toml"))? } else { Known::default() };
    let left_out = Known::read(&root.join("integration/conformance/known.toml"))?;
    let mut report = Report::default();
    for lane in &options.boot {
        let steps = run.plan(lane, &found, &options.only, &left_out, &mut report)?;
        ensure!(!steps.is_empty() || options.only.is_empty(), "no program is called {}", options.only.join(", "));
        let outcomes = run.perform(lane, lane, &steps)?;
        let judge = options.oracle.as_deref().map(|oracle| run.judge(lane, oracle, &steps, &outcomes)).transpose()?;
        for outcome in &outcomes {
            report.add(lane, outcome, &known, judge.as_ref());
        }
    }
    print!("{}", report.render());
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What all lanes share.
struct Run<'a> {
    store: PathBuf,
    checkouts: &'a Path,
    runtime: &'a Path,
    /// Of one run of the virtual machine.
    guest_limit: Duration,
}

impl Run<'_> {
    /// The programs of one lane; what it leaves out is told in the report.
    fn plan(
        &self,
        lane: &str,
        suites: &[Suite],
        only: &[String],
        list: &Known,
        report: &mut Report,
    ) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for suite in suites {
            let programs = suite.list_programs(&self.checkouts.join(suite.name()))?;
            for mut step in list_steps(*suite, &programs, lane != NATIVE) {
                let named = only.contains(&format!("{}/{}", step.label, step.program));
                if !only.is_empty() && !named && !only.contains(&step.label) {
                    continue;
                }
                match list.find_left_out(lane, &step.label, &step.program) {
                    Leave::All(reason) if !named => {
                        report.leave_out(lane, &step, "all of it", reason);
                        continue;
                    }
                    Leave::All(_) => {}
                    Leave::Tests(tests) => {
                        for (test, reason) in tests {
                            report.leave_out(lane, &step, test, reason);
                            step.without.push(test.to_owned());
                        }
                    }
                }
                steps.push(step);
            }
        }
        Ok(steps)
    }

    /// Runs what has a failure with another runtime.
    fn judge(&self, lane: &str, oracle: &Path, steps: &[Step], outcomes: &[Outcome]) -> Result<Judgement> {
        let fails = |outcome: &Outcome| outcome.tests.iter().any(|test| test.status == Status::Failed);
        let failed = |step: &&Step| {
            outcomes.iter().any(|one| one.label == step.label && one.program == step.program && fails(one))
        };
        let steps: Vec<Step> = steps.iter().filter(failed).cloned().collect();
        println!("{lane}: {} programs with {}", steps.len(), oracle.display());
        let other = Run { store: self.store.clone(), runtime: oracle, ..*self };
        let mut judgement = Judgement::new();
        for Outcome { label, program, tests } in other.perform(lane, &format!("{lane}-oracle"), &steps)? {
            judgement.extend(tests.into_iter().map(|test| ((label.clone(), program.clone(), test.name), test.status)));
        }
        Ok(judgement)
    }

    /// Runs steps in a lane; logs are in this folder below the store.
    fn perform(&self, lane: &str, folder: &str, steps: &[Step]) -> Result<Vec<Outcome>> {
        let dir = self.store.join(folder);
        suites::remove(&dir)?;
        let guest = if lane == NATIVE { None } else { Some(Guest::open(lane)?) };
        let mut outcomes = Vec::new();
        for (number, group) in list_groups(steps).into_iter().enumerate() {
            let job = dir.join(format!("group-{number}"));
            self.fill(lane, &job, group)?;
            let mut say = |line: &str| print_progress(lane, line);
            let ended = match &guest {
                None => run_here(&job, &mut say),
                Some(guest) => guest.run(&job, self.guest_limit, &mut say).map(drop),
            };
            if let Err(error) = ended {
                println!("error: {lane}: {error:#}");
            }
            outcomes.extend(group.iter().map(|step| read_outcome(&job.join("out"), step)));
        }
        Ok(outcomes)
    }

    fn fill(&self, lane: &str, job: &Path, group: &[Step]) -> Result<()> {
        fs::create_dir_all(job.join("out")).with_context(|| format!("cannot make {}", job.display()))?;
        let name = self.runtime.file_name().and_then(|name| name.to_str()).context("RUNTIME names no file")?;
        // A folder of its own: two suites and their runtimes have the same name.
        fs::create_dir_all(job.join("runtime")).context("cannot make a folder")?;
        suites::strip(self.runtime, &job.join("runtime").join(name), &self.store.join("pack.log"))?;
        for suite in SUITES.into_iter().filter(|suite| group.iter().any(|step| step.suite == *suite)) {
            suite.fill(&self.checkouts.join(suite.name()), &self.store, job)?;
        }
        let seconds = if lane == NATIVE { NATIVE_SECONDS } else { VM_SECONDS };
        let steps = group.iter().fold(String::new(), |mut text, step| {
            // Writing to a text cannot fail.
            let without = step.without.join(" ");
            writeln!(text, "{} {} {seconds} {without}", step.label, step.program).unwrap_or_default();
            text
        });
        let environment = format!("LANE={lane}\nRUNTIME_NAME={name}\n");
        for (name, text) in [("steps", steps.as_str()), ("environment", &environment), ("run.sh", SCRIPT)] {
            fs::write(job.join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(())
    }
}

/// The steps of one suite; in the virtual machine some a second time with systemd's driver.
fn list_steps(suite: Suite, programs: &[String], systemd: bool) -> Vec<Step> {
    let step = |label: String, program: &String| Step { suite, label, program: program.clone(), without: Vec::new() };
    let again = WITH_SYSTEMD.iter().filter(|(of, _)| systemd && *of == suite).flat_map(|(_, names)| names.iter());
    let again: BTreeSet<&str> = again.copied().collect();
    let plain = programs.iter().map(|program| step(suite.name().to_owned(), program));
    let second = programs.iter().filter(|program| again.contains(program.as_str()));
    plain.chain(second.map(|program| step(format!("{}-systemd", suite.name()), program))).collect()
}

/// Steps of one suite stay together, so that each job carries one suite.
fn list_groups(steps: &[Step]) -> Vec<&[Step]> {
    let by_suite = steps.chunk_by(|one, next| one.suite == next.suite);
    by_suite.flat_map(|part| part.chunks(if part[0].suite == Suite::Runc { RUNC_GROUP } else { GROUP })).collect()
}

/// Runs a job's script on this machine.
fn run_here(job: &Path, on_line: &mut dyn FnMut(&str)) -> Result<()> {
    use std::io::{BufRead, BufReader};
    let mut command = Command::new("bash");
    command.arg("run.sh").current_dir(job).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run bash")?;
    let output = child.stdout.take().context("a child has an output")?;
    for line in BufReader::new(output).lines() {
        on_line(&line.context("cannot read a child's output")?);
    }
    let status = child.wait().context("cannot wait for a child")?;
    if !status.success() {
        bail!("run.sh ended with {status}");
    }
    Ok(())
}

/// Tells that a step has ended.
fn print_progress(lane: &str, line: &str) {
    let Some(rest) = line.strip_prefix("STEP-ENDED ") else { return };
    if let [suite, program, code, seconds] = rest.split(' ').collect::<Vec<_>>()[..] {
        println!("{lane} {suite} {program}: exit code {code}, {seconds} s");
    }
}

fn read_outcome(out: &Path, step: &Step) -> Outcome {
    let file = |end: &str| out.join(format!("{}.{}.{end}", step.label, step.program));
    let bytes = fs::read(file("tap")).unwrap_or_default();
    let code = fs::read_to_string(file("code")).ok().and_then(|text| text.trim().parse().ok());
    let tests = tap::parse(&String::from_utf8_lossy(&bytes), code);
    Outcome { label: step.label.clone(), program: step.program.clone(), tests }
}

/// Counts and lines of all lanes.
#[derive(Default)]
struct Report {
    /// Lane and suite with passed, failed, known and skipped, in the order of their running.
    rows: Vec<(String, [usize; 4])>,
    lines: Vec<String>,
    failed: usize,
}

impl Report {
    fn leave_out(&mut self, lane: &str, step: &Step, what: &str, reason: &str) {
        self.lines.push(format!("left out {lane} {}/{}: {what}: {reason}", step.label, step.program));
    }

    fn add(&mut self, lane: &str, outcome: &Outcome, known: &Known, judge: Option<&Judgement>) {
        let mut counts = [0; 4];
        for test in &outcome.tests {
            let name = format!("{lane} {}/{}: {}", outcome.label, outcome.program, test.name);
            let verdict = judge.map_or("", |judge| render_verdict(judge, outcome, &test.name));
            let entry = known.find_failure(lane, &outcome.label, &outcome.program, &test.name);
            let column = match (&test.status, entry) {
                (Status::Skipped(_), _) => 3,
                (Status::Passed, None) => 0,
                (Status::Passed, Some(_)) => {
                    self.lines.push(format!("passes though listed {name}"));
                    0
                }
                (Status::Failed, Some(entry)) => {
                    self.lines.push(format!("known {name}{verdict}: {}", entry.reason));
                    2
                }
                (Status::Failed, None) => {
                    self.lines.push(format!("FAILED {name}{verdict}"));
                    1
                }
            };
            counts[column] += 1;
        }
        self.failed += counts[1];
        let key = format!("{lane} {}", outcome.label);
        match self.rows.iter_mut().find(|(row, _)| *row == key) {
            Some((_, sum)) => sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count),
            None => self.rows.push((key, counts)),
        }
    }

    /// All lines, then the counts.
    fn render(&self) -> String {
        let lines = self.lines.iter().map(|line| format!("{line}\n"));
        let rows = self.rows.iter().map(|(name, [passed, failed, known, skipped])| {
            format!("{name}: {passed} passed, {failed} failed, {known} failed as known, {skipped} skipped\n")
        });
        lines.chain(rows).collect()
    }
}

/// What the oracle says of a test that fails.
fn render_verdict(judge: &Judgement, outcome: &Outcome, test: &str) -> &'static str {
    match judge.get(&(outcome.label.clone(), outcome.program.clone(), test.to_owned())) {
        Some(Status::Passed) => " (the oracle passes)",
        Some(Status::Failed) => " (the oracle fails too)",
        Some(Status::Skipped(_)) => " (the oracle skips it)",
        None => " (the oracle has no result)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("p{number}")).collect()
    }

    #[test]
    fn groups_have_one_suite_and_a_bound() {
        let steps: Vec<Step> = SUITES.into_iter().flat_map(|suite| list_steps(suite, &names(20), false)).collect();
        let groups = list_groups(&steps);
        assert_eq!(groups.iter().map(|group| group.len()).collect::<Vec<_>>(), [20, 8, 8, 4, 20]);
        assert!(groups.iter().all(|group| group.iter().all(|step| step.suite == group[0].suite)));
    }

    #[test]
    fn systemds_driver_is_tested_where_systemd_is() {
        let programs = ["mounts".to_owned(), "update".to_owned()];
        let labels = |systemd| list_steps(Suite::Runc, &programs, systemd).into_iter().map(|step| step.label);
        assert_eq!(labels(false).collect::<Vec<_>>(), ["runc", "runc"]);
        assert_eq!(labels(true).collect::<Vec<_>>(), ["runc", "runc", "runc-systemd"]);
    }

    #[test]
    fn a_report_tells_the_new_from_the_known() {
        let test = |name: &str, status| Test { name: name.to_owned(), status };
        let tests =
            vec![test("a", Status::Passed), test("b", Status::Failed), test("c", Status::Skipped("why".to_owned()))];
        let mut report = Report::default();
        let outcome = Outcome { label: "runc".to_owned(), program: "exec".to_owned(), tests };
        report.add("native", &outcome, &Known::default(), None);
        let key = ("runc".to_owned(), "exec".to_owned(), "b".to_owned());
        let judge = Judgement::from([(key, Status::Failed)]);
        report.add("native", &outcome, &Known::default(), Some(&judge));
        report.add("native", &outcome, &Known::default(), Some(&Judgement::new()));
        let expected = "FAILED native runc/exec: b\nFAILED native runc/exec: b (the oracle fails too)\n\
                        FAILED native runc/exec: b (the oracle has no result)\n\
                        native runc: 3 passed, 3 failed, 0 failed as known, 3 skipped\n";
        assert_eq!((report.render().as_str(), report.failed), (expected, 3));
    }
}
