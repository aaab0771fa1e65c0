//! Cases that are the same with docker and with podman: their command lines have the same words.

use anyhow::{Result, ensure};

use super::Test;

/// `--tmpfs` with a size, a mode and flags.
///
/// # Errors
/// It is otherwise.
pub fn tmpfs_with_options(t: &Test<'_>) -> Result<()> {
    let script = "stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'; grep ' /t ' /proc/mounts | grep -c noexec";
    t.prints("run --rm --tmpfs /t:rw,noexec,nosuid,size=65536k,mode=750 bb sh -c", script, "750\n65536\n1")
}

/// A new volume has what the image has at its place.
///
/// # Errors
/// It is otherwise.
pub fn volume_is_filled_from_the_image(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm -v {}:/data bb sh -c", "cat /data/from-image; echo more > /data/more", "image")?;
    t.prints("run --rm -v {}:/data:ro bb cat /data/more", "", "more")?;
    t.ok("volume rm {}", "").map(drop)
}

/// Exit code and both streams of `run`.
///
/// # Errors
/// It is otherwise.
pub fn run_returns_the_exit_code(t: &Test<'_>) -> Result<()> {
    let done = t.run("run --rm bb sh -c", "echo out; echo err >&2; exit 7")?;
    ensure!((done.code, done.out.as_str(), done.err.as_str()) == (7, "out", "err"), "{done:?}");
    Ok(())
}

/// Exit code of a container that ran in the background.
///
/// # Errors
/// It is otherwise.
pub fn wait_returns_the_exit_code(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sh -c", "sleep 0.5; exit 3")?;
    t.prints("wait {}", "", "3")
}

/// `exec` as somebody, somewhere, with more variables.
///
/// # Errors
/// It is otherwise.
pub fn exec_takes_user_folder_and_variables(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    let script = "echo $(id -u):$(id -g) $(pwd) $MORE $FROM";
    t.prints("exec -u app -w /home/app -e MORE=more {} sh -c", script, "1000:1000 /home/app more image")
}

/// A terminal of the right size, and its exit code.
///
/// # Errors
/// It is otherwise.
pub fn exec_on_a_terminal(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    let mut terminal = t.terminal("exec -it {} sh")?;
    terminal.expect("# ")?;
    terminal.send("until stty size | grep -q '30 100'; do sleep 0.1; done; tty; exit 6\n")?;
    terminal.expect("/dev/pts/")?;
    let (code, rest) = terminal.end()?;
    ensure!(code == 6, "exit code {code}: {rest}");
    Ok(())
}

/// `exec -d`.
///
/// # Errors
/// It is otherwise.
pub fn exec_detached(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    t.ok("exec -d {} sh -c", "echo done > /tmp/file; sleep 1000")?;
    t.until_prints("exec {} cat /tmp/file", "done")
}

/// Exit codes of `exec`, also after a signal.
///
/// # Errors
/// It is otherwise.
pub fn exec_returns_the_exit_code(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    t.run("exec {} sh -c", "exit 9")?.code(9)?;
    t.run("exec {} sh -c", "kill -TERM $$")?.code(143).map(drop)
}

/// `stop` lets a program that handles SIGTERM end by itself.
///
/// # Errors
/// It is otherwise.
pub fn stop_with_a_handler(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sh -c", "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.1; done")?;
    t.until_prints("logs {}", "ready")?;
    t.ok("stop -t 20 {}", "")?;
    t.prints("inspect --format {{.State.ExitCode}} {}", "", "4")?;
    t.until_prints("logs {}", "bye")
}

/// `stop` kills a program that does not.
///
/// # Errors
/// It is otherwise.
pub fn stop_by_force(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    t.ok("stop -t 1 {}", "")?;
    t.prints("inspect --format {{.State.ExitCode}}-{{.State.Running}} {}", "", "137-false")
}

/// `kill` by name and by number.
///
/// # Errors
/// It is otherwise.
pub fn kill_delivers_a_signal(t: &Test<'_>) -> Result<()> {
    let script = "trap 'echo got-hup' HUP; trap 'exit 0' INT; echo ready; while :; do sleep 0.1; done";
    t.ok("run -d --name {} bb sh -c", script)?;
    t.until_prints("logs {}", "ready")?;
    t.ok("kill -s HUP {}", "")?;
    t.until_prints("logs {}", "got-hup")?;
    t.ok("kill -s 2 {}", "")?;
    t.prints("wait {}", "", "0")
}

/// `restart`.
///
/// # Errors
/// It is otherwise.
pub fn restart_gives_a_new_process(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    let first = t.ok("inspect --format {{.State.Pid}} {}", "")?;
    t.ok("restart -t 0 {}", "")?;
    let second = t.ok("inspect --format {{.State.Pid}}-{{.State.Running}} {}", "")?;
    ensure!(second.ends_with("-true") && second != format!("{first}-true"), "{first}, then {second}");
    t.prints("exec {} echo there", "", "there")
}

/// A stopped container starts with the files that it has written.
///
/// # Errors
/// It is otherwise.
pub fn start_again_keeps_the_files(t: &Test<'_>) -> Result<()> {
    t.prints("run --name {} bb sh -c", "echo x >> /tmp/file; wc -l < /tmp/file", "1")?;
    t.prints("start -a {}", "", "2")
}

/// `--network container:`.
///
/// # Errors
/// It is otherwise.
pub fn network_of_another_container(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    let first = t.ok("exec {} cat /sys/class/net/eth0/address", "")?;
    t.prints("run --rm --network container:{} bb cat /sys/class/net/eth0/address", "", &first)
}

/// `--user` by a name of the image, with its groups.
///
/// # Errors
/// It is otherwise.
pub fn user_by_name(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --user app bb sh -c", "id -u; id -g; id -G; echo $HOME", "1000\n1000\n1000 1001\n/home/app")
}

/// A restart policy.
///
/// # Errors
/// It is otherwise.
pub fn restart_on_failure(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --restart on-failure:2 bb sh -c", "echo once; exit 1")?;
    t.until_prints("inspect --format {{.RestartCount}}-{{.State.Status}} {}", "2-exited")?;
    t.prints("logs {}", "", "once\nonce\nonce")
}
