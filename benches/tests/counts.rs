//! The counts of benches/budgets.toml hold: system calls and instructions, which repeat on a busy machine.
//!
//! They are of the release build that `make test` judges and names in RUNTIME; its tools lie in `bench` beside its folder.

#![allow(clippy::print_stdout, reason = "a skip says its reason")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The runtime, or why there is nothing to count.
fn runtime() -> Result<PathBuf, &'static str> {
    let runtime = std::env::var_os("RUNTIME").map(PathBuf::from);
    let runtime = runtime.ok_or("RUNTIME does not name a release build, as `make test` does")?;
    let version = Command::new(&runtime).arg("--version").output().expect("RUNTIME is a program");
    match String::from_utf8_lossy(&version.stdout).starts_with("skep ") {
        true => Ok(runtime),
        false => Err("another runtime is under test"),
    }
}

/// Runs the bench with the budgets of one kind of counts.
fn check(kind: &str) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(reason) => return println!("SKIPPED {kind}: {reason}"),
    };
    let tools = runtime.parent().and_then(Path::parent).map(|folder| folder.join("bench")).expect("an absolute path");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_benches"));
    bench.arg("--runtime").arg(format!("skep={}", runtime.display())).arg("--tools").arg(tools).arg("--no-peers");
    bench.arg("--check").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("budgets.toml")).arg(kind);
    let output = bench.output().expect("run the bench");
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "a budget is broken, or could not be judged:\n{text}{error}");
    if let Some(reason) = text.lines().find(|line| line.contains("not measured")) {
        println!("SKIPPED {}", reason.trim());
    }
}

#[test]
fn no_command_makes_more_system_calls_than_its_budget() {
    check("count-system-calls");
}

#[test]
fn nothing_takes_more_instructions_than_its_budget() {
    check("count-instructions");
}
