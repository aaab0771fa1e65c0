//! The integration tests in the virtual machine: which of them, in which boots, and what became of them.
//!
//! The test programs are those of this workspace's own build, and the C library in the machine is of the same Debian
//! release. One run of a machine has a group of test programs; a machine that dies takes only its group with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::command::{bound_to_us, run};
use super::disks::{self, Disk};
use super::image::{self, Image};
use super::recipe::{self, Boot};
use super::{find_boot, machine};
use crate::counts::{Counts, parse_libtest};

/// Which tests a boot runs.
struct Choice {
    boot: Boot,
    files: Files,
}

enum Files {
    /// All but these, each with the reason.
    AllBut(&'static [(&'static str, &'static str)]),
    /// These.
    Only(&'static [&'static str]),
}

const CHOICES: [Choice; 4] = [
    Choice {
        boot: recipe::V2,
        files: Files::AllBut(&[
            ("clients_containerd", "hundreds of an engine's commands take too long here; `engines` has the essence"),
            ("clients_docker", "the image has no dockerd"),
            ("networks_docker", "as clients_docker"),
            ("clients_podman", "as clients_containerd"),
            ("nested", "as clients_containerd"),
            ("checkpoint_protocol", "the same on every layout"),
            ("checkpoint_surroundings", "the same on every layout, and CRIU is slow on an emulated processor"),
            ("command_line", "says nothing of the host"),
            ("denied_calls", "the same on every layout"),
            ("definitions", "the same on every layout"),
            ("devices_userns", "the same on every layout"),
            ("hooks", "the same on every layout"),
            ("insult", "many starts and many kills; `lifecycle` has the kills of each layout"),
            ("idmap", "the same on every layout"),
            ("kernel_facts", "facts of v1 and traces by strace"),
            ("landlock", "the same on every layout"),
            ("listing", "the same on every layout"),
            ("lxc_tools", "the same on every layout"),
            ("manager", "the same on every layout"),
            ("manager_cni", "the same on every layout"),
            ("manager_deaths", "as insult"),
            ("manager_lxc", "the same on every layout"),
            ("manager_many", "the same on every layout, with hundreds of containers"),
            ("manager_network", "the same on every layout, with hundreds of starts"),
            ("manager_rootless", "the same on every layout"),
            ("manager_snapshots", "the same on every layout, with hundreds of copies"),
            ("manager_storage", "the same on every layout"),
            ("manager_templates", "the same on every layout"),
            ("monitor_spare", "the same on every layout"),
            ("mount_order", "the same on every layout"),
            ("mounts", "the same on every layout but for the one of groups"),
            ("namespaces", "the same on every layout but for two cases that `resources` has too"),
            ("nesting", "an engine or a database inside takes too long here"),
            ("network", "the same on every layout"),
            ("notify", "the same on every layout"),
            ("seccomp_notify", "the same on every layout"),
            ("overlay", "the same on every layout"),
            ("past_filter", "the same on every layout"),
            ("process", "the same on every layout"),
            ("paths", "the same on every layout"),
            ("plan_trace", "strace on an emulated processor takes minutes"),
            ("rootfs", "drives no runtime, and needs umoci, skopeo and a registry"),
            ("seccomp", "the same on every layout, and each filter is compiled on an emulated processor"),
            ("security_identity", "the same on every layout"),
            ("security_files", "the same on every layout, with hundreds of starts"),
            ("security_races", "a race on an emulated processor is another one"),
            ("selinux", "has a boot of its own"),
            ("services", "an engine or a database inside takes too long here"),
            ("services_kept", "as insult"),
            ("systems_kept", "an init takes minutes here"),
            ("terminal", "the same on every layout"),
            ("trace", "the same on every layout"),
        ]),
    },
    Choice { boot: recipe::V1, files: Files::Only(&["overlay", "resources", "systemd", "update"]) },
    Choice { boot: recipe::HYBRID, files: Files::Only(&["resources", "systemd", "systems_host"]) },
    Choice { boot: recipe::SELINUX, files: Files::Only(&["selinux"]) },
];

/// Tests of these files that say the same on every layout, by words in their names: they run natively alone, unless the file
/// is asked for by name.
const NATIVE_ONLY: [(&str, &[&str]); 9] = [
    (
        "manager_live",
        &[
            "mounts_come",
            "_place_of_a_mount",
            "container_s_own",
            "nothing_is_saved",
            "a_link_of",
            "changes_of",
            "waiting_for",
            "read_only",
        ],
    ),
    (
        "lifecycle",
        &[
            "of_nothing",
            "reported_by_run",
            "bundle",
            "config",
            "_id_is_refused",
            "ids_may_have",
            "missing",
            "must_not_be_empty",
            "interpreter",
            "list_",
            "pid_file",
            "standard_streams",
            "state_has",
            "run_gives",
            "folder_as_program",
            "rootfs",
        ],
    ),
    (
        "exec",
        &[
            "_is_255_",
            "standard_streams",
            "environment",
            "cwd_is",
            "number_pair",
            "additional_gids",
            "cap_is",
            "no_new_privs",
            "process_file",
            "without_a_program",
            "options_of",
            "descriptor",
            "listen_fds",
            "keyring",
            "mapped_user",
            "seccomp",
        ],
    ),
    // Rates of an emulated processor say little; the group that tells packets is what differs here.
    ("manager_classes", &["tcp_gets"]),
    // What differs by layout: what groups tell, and how they are frozen and killed.
    (
        "monitor",
        &[
            "console",
            "policy",
            "pause",
            "starts_",
            "by_itself",
            "log_has",
            "foreground",
            "outlives",
            "descriptors",
            "hang_up",
            "waiting",
            "without_a",
            "deaths",
            "doctor",
            "machine",
        ],
    ),
    (
        "rootless",
        &["own_file", "helper", "refused_range", "ids_of", "terminal", "hidden", "binds", "below", "filter", "hooks"],
    ),
    ("view", &["a_system_"]),
    // An init takes minutes here: the newest systemd, which knows v2 alone, stands for all.
    (
        "systems",
        &[
            "leads_a",
            "gettys",
            "systemd_runs",
            "each_system",
            "limits_hold",
            "what_an_init",
            "small_first",
            "options_of",
            "a_reboot_is",
        ],
    ),
    ("update", &["bad_", "of_nothing", "by_a_file"]),
];

/// How long one test program may take, without what runs natively alone; one that runs whole may take three times as long.
const FILE_LIMIT: Duration = Duration::from_secs(600);

/// What the console of a machine says whose kernel gives up.
const CRASH: &str = "Kernel panic - not syncing";

/// How many programs one run of the machine has at most.
const GROUP: usize = 4;

/// When the last run of a machine may begin. Later ones are skips with this reason, so that a slow or busy machine still
/// ends with counts; `VM_MINUTES` changes it.
const MINUTES: u64 = 18;

/// How much longer than natively a test may wait: a process starts 10 to 40 times slower here.
const TIME_FACTOR: u32 = 8;

/// Tests at a time in one program. More than the two processors: much of a test is waiting.
const TEST_THREADS: u32 = 4;

/// What the runtime hands over to, and what its containers run. Another runtime has none of it.
const COMPANIONS: [&str; 4] = ["skep-manager", "skep-monitor", "skep-lxc", "skep-init"];

const TESTS_SCRIPT: &str = include_str!("guest/tests.sh");

/// The key of `integration/allowed-skips.txt` for a machine in which the lane cannot run.
const SKIP_KEY: &str = "virtual-machine";

/// Where tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Lane {
    /// On this machine
    Native,
    /// In the virtual machine
    Vm,
    /// In both
    All,
}

/// A narrower choice than everything.
#[derive(Debug, clap::Args)]
pub(crate) struct Narrow {
    /// One boot of the virtual machine only: vm-v2, vm-v1, vm-hybrid or vm-selinux
    #[arg(long)]
    boot: Option<String>,
    /// These test programs only in the virtual machine, separated by commas, such as resources,exec
    #[arg(long, value_delimiter = ',')]
    files: Vec<String>,
}

/// Runs the tests in all boots, or says why not as one skip.
pub(crate) fn run_lanes(root: &Path, narrow: &Narrow, filter: Option<&str>) -> Result<Counts> {
    if let Some(missing) = machine::missing() {
        return skip(root, &format!("needs {missing}"));
    }
    let image = match image::prepare() {
        Ok(image) => image,
        // No network, or a mirror that lacks a package.
        Err(error) => return skip(root, &format!("the image cannot be made: {error:#}")),
    };
    let only = narrow.boot.as_deref().map(find_boot).transpose()?;
    let programs = build_programs(root)?;
    let mut counts = Counts::default();
    let minutes = match std::env::var("VM_MINUTES") {
        Ok(text) => text.parse().with_context(|| format!("VM_MINUTES is {text:?}"))?,
        Err(_) => MINUTES,
    };
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    for choice in CHOICES.iter().filter(|choice| only.is_none_or(|boot| boot == choice.boot)) {
        let files = choose(&programs, &choice.files, &narrow.files)?;
        let part = Part { filter, whole: !narrow.files.is_empty() || filter.is_some() };
        counts.add(run_boot(root, &image, choice.boot, &files, part, until)?);
    }
    Ok(counts)
}

/// Which tests of a file.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    /// Those whose names contain this.
    filter: Option<&'a str>,
    /// Those of [`NATIVE_ONLY`] too.
    whole: bool,
}

impl Part<'_> {
    fn file_limit(&self) -> Duration {
        if self.whole { FILE_LIMIT * 3 } else { FILE_LIMIT }
    }
}

fn skip(root: &Path, reason: &str) -> Result<Counts> {
    let list = root.join("integration/allowed-skips.txt");
    let text = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let allowed = text.lines().any(|line| line.split([' ', '@']).next() == Some(SKIP_KEY));
    ensure!(allowed, "a skip that {} does not list: {SKIP_KEY}: {reason}", list.display());
    Ok(Counts { skipped: vec![(SKIP_KEY.to_owned(), reason.to_owned())], ..Counts::default() })
}

/// Name and path of each test program of the package `integration`.
fn build_programs(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut command = Command::new("cargo");
    command.args(["test", "--no-run", "--quiet", "--package", "integration", "--tests", "--message-format=json"]);
    let output = command.current_dir(root).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot run cargo")?;
    ensure!(output.status.success(), "the integration tests cannot be built");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let programs: Vec<_> = text.lines().filter_map(parse_artifact).collect();
    ensure!(!programs.is_empty(), "cargo made no test program");
    Ok(programs)
}

/// A test program in one line of cargo's messages.
fn parse_artifact(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let target = &message["target"];
    if message["reason"] != "compiler-artifact" || target["kind"][0] != "test" {
        return None;
    }
    Some((target["name"].as_str()?.to_owned(), message["executable"].as_str()?.into()))
}

fn choose(programs: &[(String, PathBuf)], files: &Files, narrow: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let exists = |name: &str| programs.iter().any(|(program, _)| program == name);
    let named: Vec<&str> = match files {
        Files::AllBut(list) => list.iter().map(|(name, _)| *name).collect(),
        Files::Only(list) => list.to_vec(),
    };
    if let Some(name) = named.into_iter().chain(narrow.iter().map(String::as_str)).find(|name| !exists(name)) {
        bail!("no test program is called {name}");
    }
    let chosen = |name: &str| match files {
        Files::AllBut(list) => !list.iter().any(|(other, _)| *other == name),
        Files::Only(list) => list.contains(&name),
    };
    let wanted = |name: &String| if narrow.is_empty() { chosen(name) } else { narrow.contains(name) };
    Ok(programs.iter().filter(|(name, _)| wanted(name)).cloned().collect())
}

fn run_boot(
    root: &Path,
    image: &Image,
    boot: Boot,
    files: &[(String, PathBuf)],
    part: Part<'_>,
    until: Instant,
) -> Result<Counts> {
    let begin = Instant::now();
    let mut counts = Counts::default();
    let store = root.join("target/vm").join(boot.name);
    image::remove_dir(&store)?;
    for (number, group) in files.chunks(GROUP).enumerate() {
        if Instant::now() > until {
            let names = group.iter().map(|(name, _)| format!("{} integration::{name}", boot.name));
            counts.skipped.extend(names.map(|name| (name, "the time of the virtual machine is up".to_owned())));
            continue;
        }
        let dir = store.join(format!("group-{number}"));
        // Of `view` only what is left out by default boots a system.
        let wants = |name: &str| group.iter().any(|(file, _)| file == name) && (part.whole || name != "view");
        let disks = disks::prepare(&root.join("target/vm/disks"), wants)?;
        pack(root, &dir, boot, group, part, &disks)?;
        let limit = part.file_limit() * u32::try_from(group.len()).context("a group is small")? + FILE_LIMIT;
        let out = dir.join("out");
        let mut say = |line: &str| print_progress(boot, line);
        let job = machine::Job { folder: &dir, disks: &disks, limit };
        let mut run = || machine::run_job(image, boot, &job, &out, &mut say);
        let mut ended = run();
        // Emulated processors now and then take half of an instruction that the kernel changes under them: its jump labels.
        if let Err(error) = &ended
            && format!("{error:#}").contains(CRASH)
        {
            println!("note: {}: the kernel of the machine crashed, it is started once more: {error:#}", boot.name);
            image::remove_dir(&out)?;
            ended = run();
        }
        if let Err(error) = ended {
            println!("error: {}: {error:#}", boot.name);
        }
        for (name, _) in group {
            counts.add(read_result(&out, boot, name));
        }
    }
    let (passed, failed, skipped) = (counts.passed, counts.failed, counts.skipped.len());
    let seconds = begin.elapsed().as_secs();
    println!("{}: {passed} passed, {failed} failed, {skipped} skipped in {seconds} s", boot.name);
    Ok(counts)
}

/// Fills the folder of a job: the runtime, test programs without what only a debugger reads, and what they are told.
fn pack(
    root: &Path,
    dir: &Path,
    boot: Boot,
    group: &[(String, PathBuf)],
    part: Part<'_>,
    disks: &[Disk],
) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let log = dir.join("log");
    let runtime = std::env::var_os("RUNTIME").filter(|value| !value.is_empty());
    let runtime = runtime.map_or_else(|| root.join("dist/bin/skep"), PathBuf::from);
    let name = runtime.file_name().and_then(|name| name.to_str()).context("RUNTIME names no file")?;
    strip(&runtime, &dir.join(name), &log)?;
    // Beside the runtime, which looks for them there too.
    for companion in COMPANIONS {
        match find_beside(&runtime, companion) {
            Some(program) => strip(&program, &dir.join(companion), &log)?,
            None => ensure!(name != "skep", "there is no {companion} beside {}", runtime.display()),
        }
    }
    let mut list = String::new();
    for (name, path) in group {
        strip(path, &dir.join(name), &log)?;
        list += &render_entry(name, part);
    }
    let user = recipe::USER.0;
    let filter = part.filter.unwrap_or_default().replace('\'', "");
    let disks = disks.iter().map(|disk| format!("{}:{}", disk.label, disk.key)).collect::<Vec<_>>().join(" ");
    let environment = format!(
        "RUNTIME=/job/{name}\nLANE={}\nTIME_FACTOR={TIME_FACTOR}\nTEST_THREADS={TEST_THREADS}\nTEST_USER={user}\n\
         FILTER='{filter}'\nDISKS='{disks}'\n",
        boot.name
    );
    for (name, text) in [("tests", list.as_str()), ("environment", &environment), ("run.sh", TESTS_SCRIPT)] {
        fs::write(dir.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

/// A program that belongs to a runtime: below the same prefix, or beside it.
fn find_beside(runtime: &Path, name: &str) -> Option<PathBuf> {
    let folder = runtime.parent()?;
    let near = folder.parent().map(|prefix| prefix.join("libexec/skep"));
    near.into_iter().chain([folder.to_owned()]).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// A line of `tests`: the program, the seconds that it may take, words of tests that it leaves out.
fn render_entry(name: &str, part: Part<'_>) -> String {
    let left_out =
        NATIVE_ONLY.iter().find(|(file, _)| *file == name && !part.whole).map_or(&[][..], |(_, words)| *words);
    format!("{name} {} {}\n", part.file_limit().as_secs(), left_out.join(" "))
}

fn strip(from: &Path, to: &Path, log: &Path) -> Result<()> {
    let mut command = bound_to_us("strip");
    command.arg("-o").arg(to).arg(from);
    run(command, Duration::from_secs(60), log)
}

fn print_progress(boot: Boot, line: &str) {
    if let Some((file, test)) = line.strip_prefix("TESTS-FAILED ").and_then(|rest| rest.split_once(' ')) {
        println!("{} integration::{file} {test}: FAILED", boot.name);
    }
    if let Some(why) = line.strip_prefix("TESTS-BROKEN ") {
        println!("error: {}: {why}", boot.name);
    }
    let Some(rest) = line.strip_prefix("TESTS-ENDED ") else { return };
    if let [name, code, seconds] = rest.split(' ').collect::<Vec<_>>()[..] {
        println!("{} integration::{name}: exit code {code} after {seconds} s", boot.name);
    }
}

/// Counts what one test program printed, and shows its failures. One that did not end, or never began, failed.
fn read_result(out: &Path, boot: Boot, name: &str) -> Counts {
    let read = |end: &str| fs::read(out.join(format!("{name}.{end}"))).unwrap_or_default();
    let text = String::from_utf8_lossy(&read("log")).into_owned();
    let code: Option<i32> = String::from_utf8_lossy(&read("code")).trim().parse().ok();
    let title = format!("{} integration::{name}", boot.name);
    let mut counts = parse_libtest(&text);
    if code != Some(0) {
        // Timeout's own code: the tests that it kept from ending are one failure more.
        if counts.failed == 0 || code.is_none_or(|code| code == 124 || code == 137) {
            counts.failed += 1;
        }
        println!("---- {title}: {}", code.map_or("did not end".to_owned(), |code| format!("exit code {code}")));
        println!("{}", render_failures(&text));
    }
    for (test, _) in &mut counts.skipped {
        *test = format!("{title} {test}").trim_end().to_owned();
    }
    counts.tables = counts.tables.iter().map(|line| format!("{} {line}", boot.name)).collect();
    counts
}

/// What failed tests printed, else the end of everything.
fn render_failures(text: &str) -> &str {
    if let Some((_, failures)) = text.split_once("\nfailures:\n") {
        return failures;
    }
    let from = text.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_program_is_found_in_the_messages_of_cargo() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(parse_artifact(line).map(|(name, _)| name).as_deref(), expected, "{line}");
        };
        let message = |kind: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"exec"}},"executable":{executable}}}"#
            )
        };
        check(&message("test", "\"/t/exec-1\""), Some("exec"));
        check(&message("lib", "\"/t/integration-1\""), None);
        check(&message("test", "null"), None);
        check("not json", None);
    }

    #[test]
    fn files_are_chosen_by_boot_or_by_name() {
        let programs: Vec<_> = ["a", "b", "c"].iter().map(|name| ((*name).to_owned(), PathBuf::new())).collect();
        let check = |files: Files, narrow: &[&str], expected: &str| {
            let narrow: Vec<String> = narrow.iter().map(|name| (*name).to_owned()).collect();
            let names = choose(&programs, &files, &narrow).map(|list| list.into_iter().map(|(name, _)| name).collect());
            assert_eq!(names.unwrap_or_else(|error: anyhow::Error| error.to_string()), expected);
        };
        check(Files::AllBut(&[("b", "")]), &[], "ac");
        check(Files::Only(&["b", "c"]), &[], "bc");
        check(Files::Only(&["b"]), &["a"], "a");
        check(Files::Only(&["d"]), &[], "no test program is called d");
        check(Files::Only(&["a"]), &["e"], "no test program is called e");
    }

    #[test]
    fn what_is_left_out_of_a_file_is_in_it() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/tests");
        for (file, words) in NATIVE_ONLY {
            let text = fs::read_to_string(tests.join(format!("{file}.rs"))).unwrap();
            let names: Vec<&str> =
                text.lines().filter_map(|line| line.strip_prefix("fn ")?.strip_suffix("() {")).collect();
            for word in words {
                assert!(names.iter().any(|name| name.contains(word)), "{file} has no test with {word}");
            }
        }
    }

    #[test]
    fn a_file_that_is_asked_for_is_whole() {
        let part = |whole| Part { filter: None, whole };
        assert_eq!(render_entry("update", part(false)), "update 600 bad_ of_nothing by_a_file\n");
        assert_eq!(render_entry("update", part(true)), "update 1800 \n");
        assert_eq!(render_entry("systemd", part(false)), "systemd 600 \n");
    }

    fn result_of(code: Option<&str>, log: &str) -> Counts {
        let out =
            std::env::temp_dir().join(format!("xtask-lane-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::create_dir_all(&out).unwrap();
        if let Some(code) = code {
            fs::write(out.join("exec.code"), code).unwrap();
        }
        fs::write(out.join("exec.log"), log).unwrap();
        let counts = read_result(&out, recipe::V2, "exec");
        fs::remove_dir_all(out).unwrap();
        counts
    }

    #[test]
    fn results_carry_the_name_of_the_lane() {
        let counts =
            result_of(Some("0\n"), "test a ... ok\ntest b ... ok\n---- b stdout ----\nSKIPPED x: needs selinux\n");
        assert_eq!((counts.passed, counts.failed), (1, 0));
        let skipped = ("vm-v2 integration::exec b".to_owned(), "x: needs selinux".to_owned());
        assert_eq!(counts.skipped, [skipped]);
    }

    #[test]
    fn a_program_that_does_not_end_has_failed() {
        let check = |code, log: &str, failed| assert_eq!(result_of(code, log).failed, failed, "{code:?} {log}");
        check(Some("124"), "test a ... ok\n", 1);
        check(Some("137"), "test a ... FAILED\n", 2);
        check(None, "", 1);
        check(Some("101"), "test a ... FAILED\n", 1);
        check(Some("101"), "", 1);
    }
}
