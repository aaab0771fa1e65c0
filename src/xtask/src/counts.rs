//! Runs the tests and counts them as passed, failed and skipped.
//!
//! A test that cannot run here prints one line `SKIPPED reason` (or `skip NAME: reason`, `SKIP: reason`) and returns.
//! libtest counts it as passed; here it is counted
//! as skipped, and its reason is printed. cargo-nextest is used where it is installed (a process for each test keeps
//! namespaces and signals apart, and a hanging test is ended), else `cargo test`.
//!
//! A test that runs a table of cases closes with `NAME: N cases, N passed, N as expected, N failed, …`. Its cases are
//! counted besides the test itself, which also judges what all of them left behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result};

use crate::vm::{Lane, Narrow, run_lanes};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The unit tests only: every crate but `integration`
    #[arg(long)]
    unit: bool,
    /// One crate only
    #[arg(long, short)]
    package: Option<String>,
    /// Where to run them: both, unless a part of the tests is asked for
    #[arg(long, value_enum)]
    lane: Option<Lane>,
    #[command(flatten)]
    narrow: Narrow,
    /// Only tests whose name contains this
    filter: Option<String>,
}

impl Options {
    fn lane(&self) -> Lane {
        let part = self.unit || self.package.is_some() || self.filter.is_some();
        self.lane.unwrap_or(if part { Lane::Native } else { Lane::All })
    }
}

/// The header that `libseccomp-dev` installs.
const LIBSECCOMP: &str = "/usr/include/seccomp.h";

/// What became of the tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Name and reason.
    pub(crate) skipped: Vec<(String, String)>,
    /// The closing lines of tables.
    pub(crate) tables: Vec<String>,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
        self.tables.extend(other.tables);
    }

    /// Adds the cases of a table if this is its closing line.
    fn add_table(&mut self, line: &str) {
        let Some((passed, failed)) = parse_table(line) else { return };
        self.passed += passed;
        self.failed += failed;
        self.tables.push(line.trim().to_owned());
    }
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let mut counts = Counts::default();
    if options.lane() != Lane::Vm {
        build_programs(root)?;
        counts.add(if has_nextest() { run_nextest(root, options)? } else { run_libtest(root, options, &["--tests"])? });
        // nextest runs no examples of the documentation.
        counts.add(run_libtest(root, options, &["--doc"])?);
    }
    if options.lane() != Lane::Native {
        counts.add(run_lanes(root, &options.narrow, options.filter.as_deref())?);
    }
    for table in &counts.tables {
        println!("{table}");
    }
    for (name, reason) in &counts.skipped {
        println!("skipped {name}: {reason}");
    }
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped.len());
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the programs that tests of the command line drive: cargo does so for those alone that have such tests beside them.
fn build_programs(root: &Path) -> Result<()> {
    let mut build = Command::new("cargo");
    build
        .args(["build", "--quiet", "--package", "skep", "--package", "skep-manager", "--package", "skep-monitor"])
        .args(["--package", "skep-lxc", "--package", "supervisor"])
        .current_dir(root);
    let status = build.status().context("cannot run cargo build")?;
    anyhow::ensure!(status.success(), "the programs to test cannot be built");
    Ok(())
}

fn has_nextest() -> bool {
    let mut version = Command::new("cargo");
    version.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn cargo(root: &Path, first: &[&str], options: &Options) -> Command {
    let mut command = Command::new("cargo");
    command.args(first).current_dir(root).stdin(Stdio::null());
    match &options.package {
        Some(package) => command.args(["--package", package]),
        None => command.arg("--workspace"),
    };
    if options.unit && options.package.is_none() {
        command.args(["--exclude", "integration"]);
    }
    // The C library judges our programs where it is installed.
    if options.package.is_none() && Path::new(LIBSECCOMP).exists() {
        command.args(["--features", "security/libseccomp-oracle"]);
    }
    command
}

fn run_nextest(root: &Path, options: &Options) -> Result<Counts> {
    // nextest resolves its store against the workspace, whatever the target folder is.
    let report = root.join("target/nextest/ci/junit.xml");
    match std::fs::remove_file(&report) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", report.display()));
        }
        _ => {}
    }
    let first = ["nextest", "run", "--config-file", ".ci/nextest.toml", "--profile", "ci", "--no-tests", "pass"];
    let mut command = cargo(root, &first, options);
    command.args(&options.filter);
    let status = command.status().context("cannot run cargo nextest")?;
    let text = match std::fs::read_to_string(&report) {
        Ok(text) => text,
        // No test matched.
        Err(_) if status.success() => return Ok(Counts::default()),
        Err(_) => return Ok(Counts { failed: 1, ..Counts::default() }),
    };
    let mut counts = parse_junit(&text);
    // The run itself failed, but no test did: it broke in a way that must not look like success.
    if !status.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}

fn run_libtest(root: &Path, options: &Options, kind: &[&str]) -> Result<Counts> {
    let mut command = cargo(root, &["test", "--no-fail-fast"], options);
    if kind == ["--doc"] && !has_library(root, options) {
        return Ok(Counts::default());
    }
    command.args(kind).args(["--", "--show-output"]).args(&options.filter);
    let (status, text) = run_merged(command)?;
    let mut counts = parse_libtest(&text);
    if !status.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}

/// Runs a command with both outputs in one pipe, in the order in which they were written, and passes them on line by line.
fn run_merged(mut command: Command) -> Result<(ExitStatus, String)> {
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdout(writer.try_clone().context("cannot duplicate a pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    // Our copies of the writing end: the pipe ends when the last one is closed.
    drop(command);
    let mut text = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("cannot read the tests' output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        text.push_str(&line);
        text.push('\n');
    }
    Ok((child.wait().context("cannot wait for the tests")?, text))
}

/// `cargo test --doc` is an error for a crate that has no library.
fn has_library(root: &Path, options: &Options) -> bool {
    let Some(package) = &options.package else { return true };
    ["", "src/"].iter().any(|folder| root.join(format!("{folder}{package}/src/lib.rs")).exists())
}

/// Reads the report that nextest writes: a `testcase` element for each test, with what it printed.
fn parse_junit(text: &str) -> Counts {
    let mut counts = Counts::default();
    for case in text.split("<testcase ").skip(1) {
        let case = case.split("</testcase>").next().unwrap_or(case);
        let head = case.split('>').next().unwrap_or(case);
        // A case without children closes itself; what follows it is not its own.
        let body = if head.ends_with('/') { "" } else { &case[head.len()..] };
        let name = || format!("{} {}", attribute(head, "classname"), attribute(head, "name"));
        let printed = unescape(body);
        printed.lines().for_each(|line| counts.add_table(line));
        if body.contains("<failure") || body.contains("<error") {
            counts.failed += 1;
        } else if let Some(reason) = printed.lines().find_map(parse_skip) {
            counts.skipped.push((name(), reason));
        } else {
            counts.passed += 1;
        }
    }
    counts
}

fn attribute(head: &str, name: &str) -> String {
    let start = format!("{name}=\"");
    // Not the end of another attribute's name: `classname` ends in `name`.
    let at = head.match_indices(&start).find(|(at, _)| *at == 0 || head.as_bytes()[at - 1] == b' ');
    let value = at.map_or("", |(at, _)| head[at + start.len()..].split('"').next().unwrap_or(""));
    unescape(value)
}

fn unescape(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    text.replace("&#10;", "\n").replace("&amp;", "&")
}

/// The reason in a line that begins with `SKIP: `, `SKIPPED ` or `skip `. A tag of the report may stand before it.
fn parse_skip(line: &str) -> Option<String> {
    let tags = ["<system-out>", "<system-err>"];
    let line = tags.iter().find_map(|tag| line.rsplit_once(tag)).map_or(line, |(_, line)| line).trim_start();
    let reason = ["SKIP: ", "SKIPPED ", "skip "].iter().find_map(|word| line.strip_prefix(word))?;
    Some(reason.split("</system-").next().unwrap_or(reason).trim().to_owned())
}

/// Passed and failed cases in the closing line of a table. What fails as expected is as good as passed.
fn parse_table(line: &str) -> Option<(usize, usize)> {
    let (_, rest) = line.split_once(": ")?;
    let fields: Vec<(usize, &str)> = rest
        .split(", ")
        .map_while(|field| field.split_once(' ').and_then(|(n, word)| Some((n.parse().ok()?, word))))
        .collect();
    let number = |word: &str| fields.iter().find(|(_, found)| *found == word).map(|(number, _)| *number);
    number("cases")?;
    Some((number("passed")? + number("as expected")?, number("failed")?))
}

/// Reads libtest's text: a result line for each test, and a block of what each passed test printed.
///
/// A test that writes past libtest's capture stands outside of the blocks, and is named by its line alone.
pub(crate) fn parse_libtest(text: &str) -> Counts {
    let mut counts = Counts::default();
    let mut printing = "";
    let mut failures = false;
    for line in text.lines() {
        counts.add_table(line);
        if line == "failures:" || line.starts_with("test result: ") {
            (printing, failures) = ("", line == "failures:");
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            printing = name;
        } else if let Some(reason) = parse_skip(line).filter(|_| !failures) {
            let skip = (printing.to_owned(), reason);
            // A test may print it more than once.
            if !counts.skipped.contains(&skip) {
                counts.skipped.push(skip);
                counts.passed = counts.passed.saturating_sub(1);
            }
        } else if let Some(rest) = line.strip_prefix("test ") {
            match rest.rsplit_once(" ... ").map(|(_, result)| result) {
                Some("ok") => counts.passed += 1,
                Some(result) if result.starts_with("FAILED") => counts.failed += 1,
                _ => {}
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_is_counted_by_what_each_case_holds() {
        let text = r#"<testsuites><testsuite name="integration">
            <testcase name="a::one" classname="integration" time="0.1">
            </testcase>
            <testcase name="a::two" classname="integration"><failure message="no"/></testcase>
            <testcase name="a::three" classname="integration::docker"><system-out>running 1 test
SKIP: dockerd is not &quot;installed&quot; &amp; never was
test a::three ... ok</system-out></testcase>
            <testcase name="a::four" classname="integration"><system-err>SKIP: no root</system-err></testcase>
            <testcase name="a::five" classname="integration"/>
            <testcase name="a::six" classname="integration"><system-out>a SKIP: in the middle</system-out></testcase>
            </testsuite></testsuites>"#;
        let counts = parse_junit(text);
        assert_eq!((counts.passed, counts.failed), (3, 1));
        let skipped = [
            ("integration::docker a::three".to_owned(), "dockerd is not \"installed\" & never was".to_owned()),
            ("integration a::four".to_owned(), "no root".to_owned()),
        ];
        assert_eq!(counts.skipped, skipped);
    }

    #[test]
    fn all_forms_of_a_skip_are_known() {
        let check = |line: &str, expected: Option<&str>| assert_eq!(parse_skip(line).as_deref(), expected, "{line}");
        check("SKIP: no root", Some("no root"));
        check("SKIPPED tests/a.rs:3: needs root", Some("tests/a.rs:3: needs root"));
        check("skip docker: needs dockerd", Some("docker: needs dockerd"));
        check("<system-err>skip docker: needs dockerd</system-err>", Some("docker: needs dockerd"));
        check("skipping the first line", None);
        check("test skip ... ok", None);
    }

    #[test]
    fn cases_of_a_table_count_besides_their_test() {
        let line = "docker with runc 1.1: 60 cases, 57 passed, 2 as expected, 1 failed, 70 s";
        assert_eq!(parse_table(line), Some((59, 1)));
        assert_eq!(parse_table("test result: ok. 2 passed; 0 failed"), None);
        assert_eq!(parse_table("it said: 3 things, 4 passed"), None);
        let text = format!("<testcase name=\"a\"><failure/><system-err>\n{line}\n</system-err></testcase>");
        let counts = parse_junit(&text);
        assert_eq!((counts.passed, counts.failed, counts.tables.len()), (59, 2, 1));
        let counts = parse_libtest(&format!("{line}\ntest a ... FAILED\n"));
        assert_eq!((counts.passed, counts.failed, counts.tables.len()), (59, 2, 1));
    }

    #[test]
    fn a_failed_test_that_printed_a_skip_is_failed() {
        let text = "<testcase name=\"a\" classname=\"b\"><failure/><system-out>SKIP: x</system-out></testcase>";
        assert_eq!(parse_junit(text), Counts { failed: 1, ..Counts::default() });
    }

    #[test]
    fn both_outputs_come_through_in_order() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo a; echo b >&2; printf c; exit 3"]);
        let (status, text) = run_merged(command).unwrap();
        assert_eq!((status.code(), text.as_str()), (Some(3), "a\nb\nc\n"));
    }

    #[test]
    fn libtest_is_counted_by_its_lines_and_blocks() {
        let text = "running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ok\n\nsuccesses:\n\n\
                    ---- c stdout ----\nSKIP: needs root\nSKIP: needs root\n\ntest result: FAILED. 2 passed; 1 failed\n\
                    test src/lib.rs - f (line 3) ... ok\n";
        let counts = parse_libtest(text);
        assert_eq!((counts.passed, counts.failed), (2, 1));
        assert_eq!(counts.skipped, [("c".to_owned(), "needs root".to_owned())]);
    }
}
