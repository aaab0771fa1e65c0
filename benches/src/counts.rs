//! What repeats: system calls as strace counts them, and instructions as callgrind does. Budgets of them hold on a busy machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bundle::Bundles;
use crate::cases::{new_id, path_text};
use crate::runtime::{Runtime, read_pid, wait_for_end};

/// Each command is counted so often; the least counts, since a wait that is interrupted is begun again.
const PASSES: usize = 3;
/// How many containers are listed.
const LISTED: usize = 10;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    SystemCalls,
    Instructions,
}

impl Kind {
    /// The name that the filter takes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::SystemCalls => "count-system-calls",
            Kind::Instructions => "count-instructions",
        }
    }

    pub(crate) fn tool(self) -> &'static str {
        match self {
            Kind::SystemCalls => "strace",
            Kind::Instructions => "valgrind",
        }
    }

    /// The commands that are counted, which budgets may name.
    pub(crate) fn commands(self) -> &'static [&'static str] {
        match self {
            Kind::SystemCalls => &[
                "run",
                "run-profile",
                "create",
                "start",
                "exec",
                "pause",
                "resume",
                "state",
                "list",
                "kill",
                "delete",
                "delete -f",
            ],
            Kind::Instructions => &["parse", "parse-large", "plan", "plan-profile", "check", "check-large", "features"],
        }
    }

    pub(crate) fn about(self) -> String {
        match self {
            Kind::SystemCalls => format!(
                "calls of a command, of what it starts and, with run and exec, of `true`; list of {LISTED}; the least of \
                 {PASSES} by `strace -fc`"
            ),
            Kind::Instructions => {
                "instructions by callgrind: what is computed by itself (parse, plan) and whole commands, with the `spec` \
                 definition, one of 23 KB (-large) and one with a seccomp profile (-profile)"
                    .to_owned()
            }
        }
    }
}

/// What was counted of a runtime: a number by command, and the system calls by name.
#[derive(Default)]
pub(crate) struct Counts {
    values: BTreeMap<&'static str, Counted>,
}

/// A number, and what it is made of as far as the tool tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) total: u64,
    pub(crate) parts: Vec<(String, u64)>,
}

impl Counts {
    #[cfg(test)]
    pub(crate) fn of(command: &'static str, counted: Counted) -> Counts {
        Counts { values: BTreeMap::from([(command, counted)]) }
    }

    pub(crate) fn get(&self, command: &str) -> Option<&Counted> {
        self.values.get(command)
    }

    fn add(&mut self, command: &'static str, counted: Counted) {
        match self.values.get(command) {
            Some(known) if known.total <= counted.total => {}
            _ => drop(self.values.insert(command, counted)),
        }
    }
}

impl Counted {
    /// The largest parts, as a line.
    pub(crate) fn render_parts(&self) -> String {
        let mut parts = self.parts.clone();
        parts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let parts: Vec<String> = parts.iter().take(12).map(|(name, count)| format!("{name} {count}")).collect();
        parts.join(", ")
    }
}

/// Why counts of a program cannot be compared with budgets: those are of a release build, with musl, for x86-64.
pub(crate) fn unfit(program: &Path) -> Option<String> {
    let bytes = std::fs::read(program).unwrap_or_default();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    if std::env::consts::ARCH != "x86_64" {
        Some("the budgets are those of x86-64".to_owned())
    } else if has(b"\0.debug_info\0") || has(b"\0.debug_line\0") {
        Some(format!("{} is no release build", program.display()))
    } else if has(b"GNU C Library") {
        Some(format!("{} is built with glibc, which makes calls of its own", program.display()))
    } else {
        None
    }
}

/// How many hierarchies of cgroup v1 are mounted.
pub(crate) fn v1_hierarchies() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    Ok(parse_hierarchies(&text))
}

/// A hierarchy is a device, which may be mounted at several places; its type stands after the lone dash.
fn parse_hierarchies(mountinfo: &str) -> u64 {
    let lines = mountinfo.lines().filter(|line| line.contains(" - cgroup "));
    let devices: std::collections::BTreeSet<&str> = lines.filter_map(|line| line.split(' ').nth(2)).collect();
    devices.len() as u64
}

/// Prints a row for each command, a column for each runtime.
pub(crate) fn render(kind: Kind, runtimes: &[&str], counts: &[Result<Counts>]) -> String {
    let mut text = format!("\n{}: {}\n", kind.name(), kind.about());
    let columns: Vec<(&str, &Counts)> =
        runtimes.iter().zip(counts).filter_map(|(name, counts)| Some((*name, counts.as_ref().ok()?))).collect();
    for (name, error) in runtimes.iter().zip(counts).filter_map(|(name, counts)| Some((name, counts.as_ref().err()?))) {
        writeln!(text, "  {name} left out: {error:#}").expect("a string takes every write");
    }
    let cell = |value: &str| format!(" {value:>12}");
    let header: String = columns.iter().map(|(name, _)| cell(name)).collect();
    text += &format!("  {:<14}{header}\n", "command");
    for command in kind.commands().iter().filter(|command| columns.iter().any(|(_, c)| c.get(command).is_some())) {
        let value = |counts: &Counts| counts.get(command).map_or("-".to_owned(), |counted| counted.total.to_string());
        let values: String = columns.iter().map(|(_, counts)| cell(&value(counts))).collect();
        text += &format!("  {command:<14}{values}\n");
    }
    text
}

/// Counts all commands of a kind. A runtime that cannot do one of them is an error; the floor does `run` alone. `tools` has the
/// program `pure` of benches/floor.
pub(crate) fn count(kind: Kind, runtime: &Runtime, bundles: &Bundles, work: &Path, tools: &Path) -> Result<Counts> {
    let mut counts = Counts::default();
    let counted = match kind {
        Kind::SystemCalls => (0..PASSES).try_for_each(|_| count_calls(runtime, bundles, work, &mut counts)),
        Kind::Instructions => count_instructions(runtime, bundles, &tools.join("pure"), &mut counts),
    };
    let cleaned = if runtime.is_floor() { Ok(()) } else { runtime.delete_all() };
    counted.and(cleaned).map(|()| counts)
}

fn count_calls(runtime: &Runtime, bundles: &Bundles, work: &Path, counts: &mut Counts) -> Result<()> {
    let summary = work.join("strace");
    let traced = |words: &[&str]| -> Result<Counted> {
        let mut command = strace(runtime, words, &summary)?;
        let status = command.status().context("cannot run strace")?;
        ensure!(status.success(), "{} under strace ended with {status}: {}", words[0], runtime.last_words());
        read_summary(&summary)
    };
    counts.add("run", traced(&["run", "--bundle", path_text(&bundles.short)?, &new_id()])?);
    if runtime.is_floor() {
        return Ok(());
    }
    if let Some(profile) = &bundles.profile {
        counts.add("run-profile", traced(&["run", "--bundle", path_text(profile)?, &new_id()])?);
    }
    counts.add("create", count_create(runtime, bundles, &summary)?);

    let (id, pid_file) = (new_id(), work.join("counted.pid"));
    let bundle = path_text(&bundles.long)?;
    runtime.measure(&["create", "--bundle", bundle, "--pid-file", path_text(&pid_file)?, &id])?;
    counts.add("start", traced(&["start", &id])?);
    counts.add("exec", traced(&["exec", &id, "true"])?);
    counts.add("pause", traced(&["pause", &id])?);
    counts.add("resume", traced(&["resume", &id])?);
    counts.add("state", traced(&["state", &id])?);
    let others: Vec<String> = (1..LISTED).map(|_| new_id()).collect();
    others.iter().try_for_each(|id| runtime.measure(&["create", "--bundle", bundle, id]).map(drop))?;
    counts.add("list", traced(&["list"])?);
    others.iter().try_for_each(|id| runtime.measure(&["delete", "--force", id]).map(drop))?;
    counts.add("kill", traced(&["kill", &id, "KILL"])?);
    wait_for_end(&read_pid(&pid_file)?)?;
    counts.add("delete", traced(&["delete", &id])?);

    let id = new_id();
    runtime.measure(&["run", "--detach", "--bundle", bundle, &id])?;
    counts.add("delete -f", traced(&["delete", "--force", &id])?);
    Ok(())
}

/// strace ends with the last process that it follows, and a created container's waits for `start`. It is killed where it waits.
fn count_create(runtime: &Runtime, bundles: &Bundles, summary: &Path) -> Result<Counted> {
    let (id, pid_file) = (new_id(), bundles.long.join("counted.pid"));
    let words = ["create", "--bundle", path_text(&bundles.long)?, "--pid-file", path_text(&pid_file)?, &id];
    let mut tracer = strace(runtime, &words, summary)?.spawn().context("cannot run strace")?;
    let created = wait_for_command(&mut tracer, &pid_file).with_context(|| format!("create: {}", runtime.last_words()));
    if created.is_err() {
        // What is traced goes on without it.
        tracer.kill().context("cannot end strace")?;
    }
    let killed = created.and_then(|()| runtime.measure(&["kill", &id, "KILL"]));
    tracer.wait().context("cannot wait for strace")?;
    killed?;
    wait_for_end(&read_pid(&pid_file)?)?;
    runtime.measure(&["delete", "--force", &id])?;
    std::fs::remove_file(&pid_file).context("cannot remove a pid file")?;
    read_summary(summary)
}

/// Waits until the pid file is there and the command itself, the only child of strace, is gone.
fn wait_for_command(tracer: &mut Child, pid_file: &Path) -> Result<()> {
    let pid = tracer.id();
    let children = PathBuf::from(format!("/proc/{pid}/task/{pid}/children"));
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let text = std::fs::read_to_string(&children).context("the kernel does not tell children")?;
        if pid_file.exists() && text.trim().is_empty() {
            return Ok(());
        }
        if let Some(status) = tracer.try_wait().context("cannot wait for strace")? {
            bail!("ended with {status}");
        }
        thread::sleep(Duration::from_millis(2));
    }
    bail!("nothing is created after 30 s")
}

fn strace(runtime: &Runtime, words: &[&str], summary: &Path) -> Result<Command> {
    let run = runtime.command(words)?;
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(summary).arg(run.get_program()).args(run.get_args());
    runtime.quiet(&mut command)?;
    Ok(command)
}

fn read_summary(path: &Path) -> Result<Counted> {
    let text = std::fs::read_to_string(path).context("strace wrote nothing")?;
    parse_calls(&text).context("strace counted nothing")
}

/// The rows of `strace -c`: share, seconds, microseconds a call, calls, maybe errors, the name; the last is `total`.
fn parse_calls(summary: &str) -> Option<Counted> {
    let mut parts = Vec::new();
    for line in summary.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(calls)) = (fields.last(), fields.get(3).and_then(|field| field.parse().ok())) else {
            continue;
        };
        match *name {
            "total" => return Some(Counted { total: calls, parts }),
            name => parts.push((name.to_owned(), calls)),
        }
    }
    None
}

/// Commands that open files of the state folder cannot be counted: callgrind knew no openat2 for long.
fn count_instructions(runtime: &Runtime, bundles: &Bundles, pure: &Path, counts: &mut Counts) -> Result<()> {
    let config = |bundle: &Path| path_text(&bundle.join("config.json")).map(str::to_owned);
    let profile = bundles.profile.as_deref();
    for (name, word, bundle) in [
        ("parse", "parse", Some(&*bundles.short)),
        ("parse-large", "parse", Some(&*bundles.large)),
        ("plan", "plan", Some(&*bundles.short)),
        ("plan-profile", "plan", profile),
    ] {
        let Some(bundle) = bundle else { continue };
        let mut command = callgrind();
        counts.add(name, read_instructions(command.arg(pure).args([word, &*config(bundle)?]), name)?);
    }
    let commands = [
        ("check", vec!["check", "--bundle", path_text(&bundles.short)?]),
        ("check-large", vec!["check", "--bundle", path_text(&bundles.large)?]),
        ("features", vec!["features"]),
    ];
    for (name, words) in commands {
        let run = runtime.command(&words)?;
        let mut command = callgrind();
        counts.add(name, read_instructions(command.arg(run.get_program()).args(run.get_args()), name)?);
    }
    Ok(())
}

fn callgrind() -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command
}

fn read_instructions(command: &mut Command, name: &str) -> Result<Counted> {
    let output = command.stdin(Stdio::null()).output().context("cannot run valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rev().find(|line| !line.starts_with("==")).unwrap_or("it said nothing");
    ensure!(output.status.success(), "{name} under valgrind ended with {}: {last}", output.status);
    let total = parse_instructions(&text).context("callgrind counted nothing")?;
    Ok(Counted { total, parts: Vec::new() })
}

/// `==PID== Collected : 249605`
fn parse_instructions(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once(" Collected : "))?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = "% time     seconds  usecs/call     calls    errors syscall\n\
        ------ ----------- ----------- --------- --------- ----------------\n \
        70.00    0.009000          90       100         8 openat\n \
        30.00    0.004940          14       342           read\n\
        ------ ----------- ----------- --------- --------- ----------------\n\
        100.00    0.013940          31       442         8 total\n";

    #[test]
    fn calls_are_the_fourth_column_with_errors_or_without() {
        let counted = parse_calls(SUMMARY).expect("a total");
        assert_eq!(counted.total, 442);
        assert_eq!(counted.parts, [("openat".to_owned(), 100), ("read".to_owned(), 342)]);
        assert_eq!(counted.render_parts(), "read 342, openat 100");
        assert_eq!(
            parse_calls("100.00    0.013940          31       442           total\n").map(|c| c.total),
            Some(442)
        );
        assert_eq!(parse_calls("nothing"), None);
    }

    #[test]
    fn instructions_are_what_callgrind_collected() {
        let text = "==12== Events    : Ir\n==12== Collected : 249605\n==12== \n==12== I   refs:      249,605\n";
        assert_eq!(parse_instructions(text), Some(249_605));
        assert_eq!(parse_instructions("==12== I refs: 1"), None);
    }

    #[test]
    fn a_hierarchy_counts_once() {
        let mountinfo = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            33 40 0:27 / /mnt rw - cgroup cgroup rw,memory\n";
        assert_eq!(parse_hierarchies(mountinfo), 2);
    }

    #[test]
    fn the_least_of_several_passes_counts() {
        let mut counts = Counts::default();
        for total in [12, 10, 11] {
            counts.add("run", Counted { total, parts: Vec::new() });
        }
        assert_eq!(counts.get("run").map(|counted| counted.total), Some(10));
    }
}
