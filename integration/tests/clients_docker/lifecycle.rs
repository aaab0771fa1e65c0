//! Containers come and go: run, terminal, exec, signals, freezer, exit codes.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::command::until;
use integration::client::lifecycle::{
    exec_detached, exec_on_a_terminal, exec_returns_the_exit_code, exec_takes_user_folder_and_variables,
    kill_delivers_a_signal, restart_gives_a_new_process, run_returns_the_exit_code, start_again_keeps_the_files,
    stop_by_force, stop_with_a_handler, wait_returns_the_exit_code,
};
use integration::client::{Case, Test, lacks_resource_capability};

pub(crate) const CASES: [Case; 28] = cases![
    run_prints,
    run_returns_the_exit_code,
    run_reads_standard_input,
    run_on_a_terminal,
    attach_and_detach,
    wait_returns_the_exit_code,
    exit_125_for_what_the_runtime_refuses,
    exit_126_for_what_is_not_executable,
    exit_127_for_what_is_not_there,
    exec_runs_in_the_container,
    exec_takes_user_folder_and_variables,
    exec_privileged,
    exec_on_a_terminal,
    exec_detached,
    exec_returns_the_exit_code,
    exec_codes_126_and_127,
    exec_into_a_stopped_container,
    stop_with_a_handler,
    stop_by_force,
    stop_with_another_signal,
    kill_ends_it,
    kill_delivers_a_signal,
    killed_by_its_own_signal,
    pause_freezes_and_unpause_goes_on,
    restart_gives_a_new_process,
    start_again_keeps_the_files,
    remove_by_force,
    build_runs_commands,
];

fn run_prints(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --runtime test bb echo hello", "", "hello")
}

fn run_reads_standard_input(t: &Test<'_>) -> Result<()> {
    let megabyte = "x".repeat(1 << 20);
    let got = t.ok_with_input("run --rm -i bb wc -c", "", &megabyte)?;
    ensure!(got == "1048576", "{got}");
    let got = t.ok_with_input("run --rm -i bb cat", "", "some input\n")?;
    ensure!(got == "some input", "{got}");
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
    terminal.send("tty; test -t 0 && test -t 1 && test -t 2 && echo all-$((6 * 9))\n")?;
    terminal.expect("/dev/pts/0")?;
    terminal.expect("all-54")?;
    terminal.send("sleep 1000\n")?;
    std::thread::sleep(Duration::from_millis(300));
    terminal.send("\x03")?;
    terminal.expect("# ")?;
    terminal.send("exit 5\n")?;
    let (code, rest) = terminal.end()?;
    ensure!(code == 5, "exit code {code}: {rest}");
    Ok(())
}

fn attach_and_detach(t: &Test<'_>) -> Result<()> {
    t.ok("run -dit --name {} bb sh", "")?;
    let mut terminal = t.terminal("attach {}")?;
    terminal.send("echo seen-$((6 * 7))\n")?;
    terminal.expect("seen-42")?;
    terminal.send("\x10\x11")?;
    terminal.end()?;
    t.prints("inspect --format {{.State.Running}} {}", "", "true")
}

fn exit_125_for_what_the_runtime_refuses(t: &Test<'_>) -> Result<()> {
    t.fails("run --rm --sysctl kernel.nothere=1 bb true", "", 125, "sysctl")
}

fn exit_126_for_what_is_not_executable(t: &Test<'_>) -> Result<()> {
    t.fails("run --rm bb /bin/not-executable", "", 126, "permission denied")?;
    t.run("run --rm bb /data", "")?.code(126).map(drop)
}

fn exit_127_for_what_is_not_there(t: &Test<'_>) -> Result<()> {
    t.fails("run --rm bb nothere", "", 127, "executable file not found")?;
    t.fails("run --rm bb /no/such/file", "", 127, "no such file or directory")
}

fn exec_runs_in_the_container(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --hostname inside bb sleep 1000", "")?;
    t.prints("exec {} hostname", "", "inside")?;
    let script = "for n in cgroup ipc mnt net pid uts; do
        test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done
        test \"$(cat /proc/1/cgroup)\" = \"$(cat /proc/self/cgroup)\" || echo cgroups
        test \"$(grep Cap /proc/1/status)\" = \"$(grep Cap /proc/self/status)\" || echo capabilities
        test \"$(grep Seccomp: /proc/1/status)\" = \"$(grep Seccomp: /proc/self/status)\" || echo seccomp";
    t.prints("exec {} sh -c", script, "")
}

fn exec_privileged(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    if lacks_resource_capability()? {
        return t.fails("exec --privileged {} true", "", 126, "operation not permitted");
    }
    t.prints("exec --privileged {} sh -c", "mkdir /tmp/m && mount -t tmpfs none /tmp/m && echo mounted", "mounted")
}

fn exec_codes_126_and_127(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    t.fails("exec {} /bin/not-executable", "", 126, "permission denied")?;
    t.fails("exec {} nothere", "", 126, "executable file not found")?;
    t.fails("exec {} /no/such/file", "", 126, "no such file")
}

fn exec_into_a_stopped_container(t: &Test<'_>) -> Result<()> {
    t.ok("run --name {} bb true", "")?;
    t.fails("exec {} true", "", 1, "is not running")
}

fn stop_with_another_signal(t: &Test<'_>) -> Result<()> {
    t.ok(
        "run -d --name {} --stop-signal USR1 bb sh -c",
        "trap 'exit 12' USR1; echo ready; while :; do sleep 0.1; done",
    )?;
    t.until_prints("logs {}", "ready")?;
    t.ok("stop -t 20 {}", "")?;
    t.prints("inspect --format {{.State.ExitCode}} {}", "", "12")
}

fn kill_ends_it(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sh -c", "sleep 1000 & sleep 1000 & wait")?;
    t.ok("kill {}", "")?;
    t.prints("wait {}", "", "137")?;
    t.fails("kill {}", "", 1, "is not running")
}

fn killed_by_its_own_signal(t: &Test<'_>) -> Result<()> {
    t.run("run --rm --init bb sh -c", "kill -KILL $$")?.code(137)?;
    t.run("run --rm --init bb sh -c", "kill -SEGV $$")?.code(139).map(drop)
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
    t.fails("exec {} true", "", 1, "paused")?;
    t.fails("pause {}", "", 1, "already paused")?;
    t.ok("unpause {}", "")?;
    until("it counts again", Duration::from_secs(10), || Ok(std::fs::read_to_string(&file)? != frozen))
}

fn remove_by_force(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sh -c", "trap '' TERM INT HUP; while :; do sleep 1000 & wait; done")?;
    t.fails("rm {}", "", 1, "stop the container before")?;
    t.ok("rm -f {}", "")?;
    t.fails("inspect {}", "", 1, "no such object")
}

fn build_runs_commands(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?;
    let file =
        "FROM bb\nRUN echo built-$(id -u) > /built\nUSER app\nRUN id -un > /tmp/user\nCMD cat /built /tmp/user\n";
    std::fs::write(folder.join("Dockerfile"), file)?;
    t.ok("build --quiet --force-rm --tag {}", &folder.display().to_string())?;
    t.prints("run --rm {}", "", "built-0\napp")?;
    t.ok("rmi {}", "").map(drop)
}
