//! Containers come and go: run, terminal, exec, signals, freezer, exit codes, what conmon passes on.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::command::until;
use integration::client::lifecycle::{
    exec_detached, exec_on_a_terminal, exec_returns_the_exit_code, exec_takes_user_folder_and_variables,
    kill_delivers_a_signal, restart_gives_a_new_process, restart_on_failure, run_returns_the_exit_code,
    start_again_keeps_the_files, stop_by_force, stop_with_a_handler, wait_returns_the_exit_code,
};
use integration::client::{Case, Test};

pub(crate) const CASES: [Case; 32] = cases![
    run_prints,
    run_returns_the_exit_code,
    run_reads_standard_input,
    run_on_a_terminal,
    wait_returns_the_exit_code,
    exit_126_for_what_is_not_executable,
    exit_127_for_what_is_not_there,
    exit_126_or_127_for_what_the_runtime_refuses,
    create_then_start,
    exec_runs_in_the_container,
    exec_takes_user_folder_and_variables,
    exec_on_a_terminal,
    exec_detached,
    exec_returns_the_exit_code,
    exec_codes_126_and_127,
    exec_with_preserved_descriptor,
    run_with_preserved_descriptor,
    top_lists_processes,
    stop_with_a_handler,
    stop_by_force,
    start_again_keeps_the_files,
    restart_gives_a_new_process,
    restart_on_failure,
    kill_ends_it,
    kill_delivers_a_signal,
    pause_freezes_and_unpause_goes_on,
    remove_by_force,
    logs_keep_both_streams,
    health_check_run,
    hooks_run_in_order,
    ten_at_once,
    service_notification,
];

fn run_prints(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm bb echo hello", "", "hello")
}

fn run_reads_standard_input(t: &Test<'_>) -> Result<()> {
    let got = t.ok_with_input("run --rm -i bb wc -c", "", &"x".repeat(1 << 20))?;
    ensure!(got == "1048576", "{got}");
    Ok(())
}

fn run_on_a_terminal(t: &Test<'_>) -> Result<()> {
    let mut terminal = t.terminal("run --rm -it --name {} bb sh")?;
    terminal.expect("# ")?;
    terminal.send("until stty size | grep -q '30 100'; do sleep 0.1; done; echo first-$((6 * 7))\n")?;
    terminal.expect("first-42")?;
    terminal.resize(80, 24)?;
    terminal.send("until stty size | grep -q '24 80'; do sleep 0.1; done; echo second-$((6 * 8))\n")?;
    terminal.expect("second-48")?;
    terminal.send("tty; test -c /dev/console && test -t 0 && test -t 1 && test -t 2 && echo all-$((6 * 9))\n")?;
    terminal.expect("/dev/pts/0")?;
    terminal.expect("all-54")?;
    terminal.send("exit 5\n")?;
    let (code, rest) = terminal.end()?;
    ensure!(code == 5, "exit code {code}: {rest}");
    Ok(())
}

fn exit_126_for_what_is_not_executable(t: &Test<'_>) -> Result<()> {
    t.fails("run --rm bb /bin/not-executable", "", 126, "permission denied")
}

fn exit_127_for_what_is_not_there(t: &Test<'_>) -> Result<()> {
    t.fails("run --rm bb nothere", "", 127, "nothere")?;
    t.fails("run --rm bb /no/such/file", "", 127, "no such file or directory")
}

fn exit_126_or_127_for_what_the_runtime_refuses(t: &Test<'_>) -> Result<()> {
    let done = t.run("run --rm --sysctl kernel.nothere=1 bb true", "")?;
    ensure!((125..=127).contains(&done.code) && done.err.contains("kernel"), "{done:?}");
    Ok(())
}

fn create_then_start(t: &Test<'_>) -> Result<()> {
    t.ok("create --name {} bb echo started", "")?;
    t.ok("init {}", "")?;
    t.prints("inspect --format {{.State.Status}} {}", "", "initialized")?;
    t.prints("start --attach {}", "", "started")
}

fn exec_runs_in_the_container(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --hostname inside bb sleep 1000", "")?;
    t.prints("exec {} hostname", "", "inside")?;
    let script = "for n in cgroup ipc mnt net pid uts; do
        test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done
        test \"$(cat /proc/1/cgroup)\" = \"$(cat /proc/self/cgroup)\" || echo cgroups";
    t.prints("exec {} sh -c", script, "")
}

fn exec_codes_126_and_127(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    t.run("exec {} /bin/not-executable", "")?.code(126)?;
    t.run("exec {} nothere", "")?.code(127).map(drop)
}

/// Runs the client through a shell that holds a pipe at descriptor 3.
fn with_descriptor(t: &Test<'_>, words: &str) -> Result<String> {
    let mut command = std::process::Command::new("bash");
    let program = t.cli.command();
    command.args(["-c", "exec 3<<<'through three'; exec \"$@\"", "bash"]);
    command.arg(program.get_program()).args(program.get_args()).args(words.split(' ')).args(["sh", "-c", "cat <&3"]);
    let output = command.stdin(std::process::Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn exec_with_preserved_descriptor(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    let got = with_descriptor(t, &format!("exec --preserve-fds 1 {}", t.name))?;
    ensure!(got == "through three", "{got}");
    Ok(())
}

fn run_with_preserved_descriptor(t: &Test<'_>) -> Result<()> {
    let got = with_descriptor(t, "run --rm --preserve-fds 1 bb")?;
    ensure!(got == "through three", "{got}");
    t.prints("run --rm bb sh -c", "ls /proc/self/fd | wc -w", "4")
}

fn top_lists_processes(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sh -c", "sleep 1111 & sleep 2222 & wait")?;
    until("three processes", Duration::from_secs(10), || {
        let text = t.ok("top {} pid user args", "")?;
        Ok(text.lines().count() == 4 && text.contains("sleep 1111") && text.contains("sleep 2222"))
    })?;
    let text = t.ok("top {} -eo pid,comm", "")?;
    ensure!(text.contains("sleep"), "{text}");
    Ok(())
}

fn kill_ends_it(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sh -c", "sleep 1000 & sleep 1000 & wait")?;
    t.ok("kill {}", "")?;
    t.prints("wait {}", "", "137")?;
    t.fails("kill {}", "", 125, "can only kill running containers")
}

fn pause_freezes_and_unpause_goes_on(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?;
    let file = folder.join("count");
    let volume = format!("run -d --name {{}} -v {}:/out bb sh -c", folder.display());
    t.ok(&volume, "i=0; while :; do i=$((i + 1)); echo $i > /out/count; sleep 0.05; done")?;
    until("a count", Duration::from_secs(10), || Ok(file.exists()))?;
    t.ok("pause {}", "")?;
    t.prints("inspect --format {{.State.Status}} {}", "", "paused")?;
    let frozen = std::fs::read_to_string(&file)?;
    std::thread::sleep(Duration::from_millis(400));
    ensure!(std::fs::read_to_string(&file)? == frozen, "it still counts");
    t.ok("unpause {}", "")?;
    until("it counts again", Duration::from_secs(10), || Ok(std::fs::read_to_string(&file)? != frozen))
}

fn remove_by_force(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sh -c", "trap '' TERM INT HUP; while :; do sleep 1000 & wait; done")?;
    t.ok("rm -f -t 0 {}", "")?;
    t.fails("inspect {}", "", 125, "no such object")
}

fn logs_keep_both_streams(t: &Test<'_>) -> Result<()> {
    t.ok("run --name {} bb sh -c", "echo out; echo err >&2")?;
    let done = t.run("logs {}", "")?;
    ensure!((done.out.as_str(), done.err.as_str()) == ("out", "err"), "{done:?}");
    t.ok("run -d --name {}-follow bb sh -c", "for i in 1 2 3; do echo line $i; sleep 0.2; done")?;
    t.prints("logs -f {}-follow", "", "line 1\nline 2\nline 3")
}

fn health_check_run(t: &Test<'_>) -> Result<()> {
    let start = ["run", "-d", "--name", "{}", "--health-interval", "disable", "--health-retries", "1", "--health-cmd"];
    t.words(&[&start[..], &["test -e /tmp/well", "bb", "sleep", "1000"]].concat())?.ok()?;
    t.fails("healthcheck run {}", "", 1, "unhealthy")?;
    t.ok("exec {} touch /tmp/well", "")?;
    t.ok("healthcheck run {}", "")?;
    t.prints("inspect --format {{.State.Healthcheck.Status}} {}", "", "healthy")
}

fn hooks_run_in_order(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?;
    let log = folder.join("log");
    let mut stages = String::new();
    for stage in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        // Those of the container's side must find their program there.
        let program = if stage == "startContainer" { "/bin/sh" } else { "/usr/bin/bash" };
        let script = match stage {
            "startContainer" => "echo startContainer > /tmp/stage".to_owned(),
            _ => format!("read -r state; echo {stage} ${{#state}} >> {}", log.display()),
        };
        let hook = format!(
            r#"{{"version": "1.0.0", "hook": {{"path": "{program}", "args": ["sh", "-c", "{script}"]}},
                "when": {{"always": true}}, "stages": ["{stage}"]}}"#
        );
        std::fs::write(folder.join(format!("{stage}.json")), hook)?;
        stages.push_str(stage);
    }
    let global = format!("--hooks-dir {} run --name {{}} bb cat /tmp/stage", folder.display());
    t.prints(&global, "", "startContainer")?;
    t.ok("rm {}", "")?;
    let ran = std::fs::read_to_string(&log)?;
    let names: Vec<&str> = ran.lines().filter_map(|line| line.split(' ').next()).collect();
    ensure!(names == ["prestart", "createRuntime", "createContainer", "poststart", "poststop"], "{ran}");
    ensure!(!ran.lines().any(|line| line.ends_with(" 0")), "a hook got no state: {ran}");
    Ok(())
}

fn ten_at_once(t: &Test<'_>) -> Result<()> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..10)
            .map(|number| scope.spawn(move || t.ok(&format!("run -d --name {{}}-{number} bb sleep 1000"), "")))
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let running = t.ok("ps --quiet --filter name=^{}-", "")?;
    ensure!(running.lines().count() == 10, "{} run", running.lines().count());
    Ok(())
}

fn service_notification(t: &Test<'_>) -> Result<()> {
    let socket = std::os::unix::net::UnixDatagram::bind(t.folder()?.join("notify"))?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    // Whoever runs the client: that is not always root.
    std::fs::set_permissions(t.folder()?.join("notify"), std::fs::Permissions::from_mode(0o777))?;
    let mut command = t.cli.command();
    command.env("NOTIFY_SOCKET", t.folder()?.join("notify"));
    command.args(["run", "-d", "--name", t.name, "--sdnotify", "conmon", "bb", "sleep", "1000"]);
    let status = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).status()?;
    ensure!(status.success(), "{status}");
    let mut text = [0; 512];
    let mut seen = String::new();
    while !seen.contains("READY=1") {
        let size = socket.recv(&mut text)?;
        seen.push_str(&String::from_utf8_lossy(&text[..size]));
    }
    ensure!(seen.contains("MAINPID="), "{seen}");
    Ok(())
}
