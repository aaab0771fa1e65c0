//! The program as its callers see it: output, error output, exit code, log.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is gone after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("program-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder");
        Scratch(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a UTF-8 path").to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).expect("a text file")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("a folder to remove");
    }
}

fn run_as(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().expect("the program runs")
}

fn run(args: &[&str]) -> Output {
    run_as(env!("CARGO_BIN_EXE_skep"), args)
}

/// Exit code, output, error output.
fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

/// Takes the time out of `time="..." level=...`.
fn without_time(line: &str) -> &str {
    let rest = line.strip_prefix("time=\"").expect("a time");
    rest.split_once("Z\" ").expect("an end of the time").1
}

#[test]
fn the_version_has_three_lines_that_name_the_program() {
    let scratch = Scratch::new();
    let runc = scratch.path("runc");
    symlink(env!("CARGO_BIN_EXE_skep"), &runc).expect("a link");
    for (output, name) in
        [(run(&["--version"]), "skep"), (run(&["-v"]), "skep"), (run_as(&runc, &["--version"]), "runc")]
    {
        let (code, out, err) = told(output);
        assert_eq!((code, err.as_str()), (0, ""));
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 3, "{out}");
        assert_eq!(lines[0], format!("{name} version {}", env!("CARGO_PKG_VERSION")));
        assert!(lines[1].starts_with("commit: ") && lines[1].len() > 8, "{out}");
        assert_eq!(lines[2], "spec: 1.3.0");
    }
}

#[test]
fn help_is_no_failure() {
    for args in [&[][..], &["--help"], &["help"], &["kill", "--help"], &["create", "-h"]] {
        let (code, out, err) = told(run(args));
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.starts_with("NAME:\n   skep "), "{args:?}: {out}");
    }
}

#[test]
fn a_wrong_command_line_prints_help_and_one_line_of_reason() {
    let (code, out, err) = told(run(&["kill"]));
    assert_eq!(code, 1);
    assert!(
        out.starts_with(
            "Incorrect Usage: skep: \"kill\" requires a minimum of 1 argument(s)\n\nNAME:\n   skep kill - "
        )
    );
    assert_eq!(without_time(&err), "level=error msg=\"skep: \\\"kill\\\" requires a minimum of 1 argument(s)\"\n");
}

#[test]
fn an_unknown_command_has_a_code_of_its_own() {
    let (code, out, err) = told(run(&["stat", "-h"]));
    assert_eq!((code, out.as_str()), (3, ""));
    let reason = "unknown command: No help topic for 'stat' (did you mean state?)";
    assert_eq!(without_time(&err), format!("level=error msg=\"{reason}\"\n"));
}

#[test]
fn exec_fails_with_a_code_of_its_own() {
    let (code, _, err) = told(run(&["exec", "web"]));
    assert_eq!(code, 255);
    assert_eq!(without_time(&err), "level=error msg=\"exec args cannot be empty: name a command or use --process\"\n");
    assert_eq!(told(run(&["exec", "", "true"])).0, 255);
    assert_eq!(told(run(&["exec"])).0, 1);
}

#[test]
fn the_questions_by_which_podman_finds_out_about_checkpoints_are_answered() {
    let (code, out, err) = told(run(&["checkpoint", "--help"]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("--leave-running"), "{out}");
    let (code, _, err) = told(run(&["restore", "--lsm-mount-context"]));
    assert_eq!(code, 1);
    assert!(err.contains("flag needs an argument"), "{err}");
}

#[test]
fn a_failure_goes_to_the_log_and_bare_to_the_error_output() {
    let scratch = Scratch::new();
    let log = scratch.path("log.json");
    fs::write(&log, "{\"level\":\"info\",\"msg\":\"before\"}\n").expect("a log");
    let bundle = scratch.path("missing");
    fs::create_dir(&bundle).expect("a bundle without a definition");
    let reason = format!("JSON specification file {bundle}/config.json not found");
    for _ in 0..2 {
        let (code, out, err) = told(run(&["--log", &log, "--log-format", "json", "check", "--bundle", &bundle]));
        assert_eq!((code, out.as_str(), err.as_str()), (1, "", format!("{reason}\n").as_str()));
    }
    let lines = scratch.read("log.json");
    let records: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(records.len(), 3, "the log is appended to: {lines}");
    assert_eq!(records[0]["msg"], "before");
    assert_eq!(records[2]["level"], "error");
    assert_eq!(records[2]["msg"], reason);
    assert!(records[2]["time"].as_str().is_some_and(|time| time.len() == "2026-08-19T12:34:56.000000789Z".len()));
}

#[test]
fn a_wrong_command_line_reaches_the_log_too() {
    let scratch = Scratch::new();
    let log = scratch.path("log");
    let (code, _, err) = told(run(&["--log", &log, "create", "--no-such", "web"]));
    assert_eq!((code, err.as_str()), (1, "flag provided but not defined: -no-such\n"));
    assert_eq!(without_time(&scratch.read("log")), "level=error msg=\"flag provided but not defined: -no-such\"\n");
}

#[test]
fn a_log_that_cannot_be_opened_is_a_failure() {
    let (code, out, err) = told(run(&["--log", "/no/such/folder/log", "features"]));
    assert_eq!((code, out.as_str()), (1, ""));
    let reason = "cannot open the log that --log names: No such file or directory (os error 2)";
    assert_eq!(without_time(&err), format!("level=error msg=\"{reason}\"\n"));
}

#[test]
fn features_are_json_and_nothing_else() {
    let (code, out, err) = told(run(&["features"]));
    assert_eq!((code, err.as_str()), (0, ""));
    let document: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(document["ociVersionMax"], "1.3.0");
}

#[test]
fn spec_writes_a_bundle_that_passes_check() {
    let scratch = Scratch::new();
    let bundle = scratch.path("");
    for args in [&["spec", "-b", &bundle][..], &["spec", "--rootless", "--bundle", &bundle]] {
        assert_eq!(told(run(args)), (0, String::new(), String::new()), "{args:?}");
        let (code, out, err) = told(run(&["check", "-b", &bundle]));
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let file = scratch.path("config.json");
        assert!(out.ends_with(&format!("{file}: 0 errors, 0 warnings\n")), "{out}");
        let before = scratch.read("config.json");
        let (code, out, err) = told(run(args));
        assert_eq!((code, out.as_str()), (1, ""));
        assert_eq!(without_time(&err), format!("level=error msg=\"file {file} exists: remove it first\"\n"));
        assert_eq!(scratch.read("config.json"), before);
        fs::remove_file(&file).expect("a file to remove");
    }
}

#[test]
fn spec_writes_to_the_current_folder() {
    let scratch = Scratch::new();
    let status =
        Command::new(env!("CARGO_BIN_EXE_skep")).arg("spec").current_dir(&scratch.0).status().expect("it runs");
    assert!(status.success());
    assert!(scratch.read("config.json").starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n"));
}

#[test]
fn check_tells_all_findings_at_once() {
    let scratch = Scratch::new();
    let config = r#"{"ociVersion":"1.3.0","root":{"path":"rootfs"},"process":{"args":["sh"],"cwd":"relative","user":{"uid":-1}}}"#;
    fs::write(scratch.path("other.json"), config).expect("a file");
    let (code, out, err) = told(run(&["check", "--json", "-f", &scratch.path("other.json")]));
    assert_eq!((code, err.as_str()), (1, ""));
    let document: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(document["valid"], false);
    let findings = document["findings"].as_array().expect("findings");
    let pointers: Vec<&str> = findings.iter().filter_map(|finding| finding["pointer"].as_str()).collect();
    assert!(pointers.contains(&"/process/cwd") && pointers.contains(&"/process/user/uid"), "{out}");
    let (code, out, _) = told(run(&["check", "-f", &scratch.path("other.json")]));
    assert_eq!(code, 1);
    assert!(out.contains("other.json:/process/cwd: error: "), "{out}");
}

#[test]
fn output_that_nobody_reads_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = Command::new(env!("CARGO_BIN_EXE_skep")).arg("features").stdout(full).output().expect("it runs");
    let (code, _, err) = told(output);
    assert_eq!(code, 1);
    assert!(err.contains("cannot write to standard output: No space left on device"), "{err}");
}
