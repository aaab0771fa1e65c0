//! containerd by its own command line: tasks without anything of docker's or Kubernetes' around them.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::command::until;
use integration::client::{Case, Done, Test, lacks_resource_capability};
use serde_json::Value;

pub(crate) const CASES: [Case; 31] = cases![
    run_prints,
    run_returns_the_exit_code,
    run_on_a_terminal,
    run_refuses_what_is_not_there,
    run_detached_with_a_pid_file,
    create_start_and_delete,
    delete_needs_an_end_or_force,
    exec_runs_in_the_container,
    exec_takes_user_folder_and_environment,
    exec_on_a_terminal,
    exec_returns_the_exit_code,
    exec_of_nothing,
    pause_and_resume,
    metrics_are_counted,
    kill_delivers_a_signal,
    kill_all_without_a_pid_namespace,
    processes_are_listed,
    user_namespace,
    limits,
    read_only_root,
    bind_mounts,
    capabilities,
    seccomp_default,
    seccomp_profile,
    joined_namespaces,
    network_of_the_host,
    privileged,
    device,
    root_file_system_from_a_folder,
    whole_configuration_from_a_file,
    logs_to_a_file,
];

const IMAGE: &str = "docker.io/library/bb:latest";

/// Runs `ctr run` with these options; the container is named after the case, with `suffix`.
fn run(t: &Test<'_>, options: &str, suffix: &str, script: &str) -> Result<Done> {
    let runtime = t.cell.runtime.path.display();
    t.run(&format!("run --runc-binary {runtime} {options} {IMAGE} {{}}{suffix} sh -c"), script)
}

fn prints(t: &Test<'_>, options: &str, script: &str, want: &str) -> Result<()> {
    let once = || run(t, &format!("--rm {options}"), "-once", script)?.ok();
    // ctr stops copying when it is told the end, and loses what it has not read of a program that ended at once. That is all or
    // nothing of so little, and nothing of the runtime's.
    let mut got = once()?;
    for _ in 0..2 {
        if got.is_empty() {
            got = once()?;
        }
    }
    ensure!(got == want, "`{script}` printed {got:?}, not {want:?}");
    Ok(())
}

fn detached(t: &Test<'_>, options: &str, script: &str) -> Result<()> {
    run(t, &format!("--detach {options}"), "", script)?.ok().map(drop)
}

/// Runs a script by `ctr task exec`, which drops what a process writes that ends before its streams are open.
fn exec_prints(t: &Test<'_>, options: &str, script: &str, want: &str) -> Result<()> {
    let script = format!("{script}; sleep 0.3");
    t.prints(&format!("task exec --exec-id one {options} {{}} sh -c"), &script, want)
}

/// Removes what the case named after itself: tasks by force, containers with their snapshots.
pub(crate) fn remove_containers(t: &Test<'_>) -> Result<()> {
    let own = |name: &&str| *name == t.name || name.starts_with(&format!("{}-", t.name));
    let tasks = t.ok("task ls -q", "")?;
    for name in tasks.lines().filter(own) {
        t.run(&format!("task kill --all --signal KILL {name}"), "")?;
        t.ok(&format!("task delete --force {name}"), "")?;
    }
    let containers = t.ok("container ls -q", "")?;
    for name in containers.lines().filter(own) {
        t.ok(&format!("container delete {name}"), "")?;
    }
    Ok(())
}

fn status(t: &Test<'_>) -> Result<String> {
    let list = t.ok("task ls", "")?;
    let line = list.lines().find(|line| line.split_whitespace().next() == Some(t.name));
    Ok(line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("none").to_owned())
}

fn wait_for(t: &Test<'_>, want: &str) -> Result<()> {
    until(&format!("status {want}"), Duration::from_secs(10), || Ok(status(t)? == want))
}

fn run_prints(t: &Test<'_>) -> Result<()> {
    prints(t, "", "echo hello; id -u; hostname; pwd; echo $FROM", &format!("hello\n0\n{}\n/\nimage", hostname()?))
}

/// ctr gives no hostname, and its UTS namespace starts with the machine's.
fn hostname() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned())
}

fn run_returns_the_exit_code(t: &Test<'_>) -> Result<()> {
    let done = run(t, "--rm", "", "echo out; echo err >&2; exit 7")?;
    ensure!((done.code, done.out.as_str(), done.err.contains("err")) == (7, "out", true), "{done:?}");
    Ok(())
}

fn run_on_a_terminal(t: &Test<'_>) -> Result<()> {
    let runtime = t.cell.runtime.path.display();
    let mut terminal = t.terminal(&format!("run --rm -t --runc-binary {runtime} {IMAGE} {{}} sh"))?;
    terminal.expect("# ")?;
    terminal.send("until stty size | grep -q '30 100'; do sleep 0.1; done; echo first-$((6 * 7))\n")?;
    terminal.expect("first-42")?;
    terminal.send("tty; exit 5\n")?;
    terminal.expect("/dev/pts/0")?;
    let (code, rest) = terminal.end()?;
    ensure!(code == 5, "exit code {code}: {rest}");
    Ok(())
}

fn run_refuses_what_is_not_there(t: &Test<'_>) -> Result<()> {
    let runtime = t.cell.runtime.path.display();
    t.fails(&format!("run --rm --runc-binary {runtime} {IMAGE} {{}} nothere"), "", 1, "executable file not found")?;
    t.fails(&format!("run --rm --runc-binary {runtime} {IMAGE} {{}}-b /no/file"), "", 1, "no such file or directory")
}

fn run_detached_with_a_pid_file(t: &Test<'_>) -> Result<()> {
    let file = t.folder()?.join("pid");
    detached(t, &format!("--pid-file {}", file.display()), "exec sleep 5678")?;
    let pid = std::fs::read_to_string(&file)?;
    let line = std::fs::read(format!("/proc/{}/cmdline", pid.trim()))?;
    ensure!(String::from_utf8_lossy(&line).contains("sleep"), "{pid}");
    Ok(())
}

fn create_start_and_delete(t: &Test<'_>) -> Result<()> {
    t.ok(&format!("container create {IMAGE} {{}} false"), "")?;
    ensure!(status(t)? == "none", "{}", status(t)?);
    t.ok("task start --detach {}", "")?;
    wait_for(t, "STOPPED")?;
    t.fails("task delete {}", "", 0, "exit code 1")?;
    // The same container once more, with what it wrote before.
    t.run("task start {}", "")?.code(1)?;
    t.ok("container delete {}", "").map(drop)
}

fn delete_needs_an_end_or_force(t: &Test<'_>) -> Result<()> {
    detached(t, "", "sleep 1000")?;
    let done = t.run("task delete {}", "")?;
    ensure!(done.code != 0 && status(t)? == "RUNNING", "{done:?}");
    t.ok("task delete --force {}", "")?;
    ensure!(status(t)? == "none", "it is still listed");
    Ok(())
}

fn exec_runs_in_the_container(t: &Test<'_>) -> Result<()> {
    detached(t, "", "sleep 1000; true")?;
    let script = "for n in cgroup ipc mnt net pid uts; do
        test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done
        test \"$(cat /proc/1/cgroup)\" = \"$(cat /proc/self/cgroup)\" || echo cgroups; echo compared";
    exec_prints(t, "", script, "compared")
}

fn exec_takes_user_folder_and_environment(t: &Test<'_>) -> Result<()> {
    detached(t, "--env MORE=more", "sleep 1000; true")?;
    let script = "echo $(id -u):$(id -g) $(pwd) $MORE";
    exec_prints(t, "--user 1000:1000 --cwd /home/app", script, "1000:1000 /home/app more")
}

fn exec_on_a_terminal(t: &Test<'_>) -> Result<()> {
    detached(t, "", "sleep 1000; true")?;
    let mut terminal = t.terminal("task exec -t --exec-id one {} sh")?;
    terminal.expect("# ")?;
    terminal.send("tty; exit 6\n")?;
    terminal.expect("/dev/pts/0")?;
    let (code, rest) = terminal.end()?;
    ensure!(code == 6, "exit code {code}: {rest}");
    Ok(())
}

fn exec_returns_the_exit_code(t: &Test<'_>) -> Result<()> {
    detached(t, "", "sleep 1000; true")?;
    t.run("task exec --exec-id one {} sh -c", "exit 9")?.code(9)?;
    t.run("task exec --exec-id two {} sh -c", "kill -TERM $$")?.code(143).map(drop)
}

fn exec_of_nothing(t: &Test<'_>) -> Result<()> {
    detached(t, "", "sleep 1000; true")?;
    t.fails("task exec --exec-id one {} nothere", "", 1, "executable file not found")?;
    ensure!(status(t)? == "RUNNING", "the container ended");
    Ok(())
}

fn pause_and_resume(t: &Test<'_>) -> Result<()> {
    detached(t, "", "sleep 1000; true")?;
    t.ok("task pause {}", "")?;
    ensure!(status(t)? == "PAUSED", "{}", status(t)?);
    t.ok("task resume {}", "")?;
    ensure!(status(t)? == "RUNNING", "{}", status(t)?);
    exec_prints(t, "", "echo there", "there")
}

fn metrics_are_counted(t: &Test<'_>) -> Result<()> {
    detached(t, "--memory-limit 67108864", "while :; do :; done")?;
    until("a busy container's figures", Duration::from_secs(10), || {
        let text = t.ok("task metrics --format json {}", "")?;
        let figures: Value = serde_json::from_str(&text)?;
        let cpu = figures.pointer("/cpu/usage/total").and_then(Value::as_u64).unwrap_or(0);
        let limit = figures.pointer("/memory/usage/limit").and_then(Value::as_u64).unwrap_or(0);
        let pids = figures.pointer("/pids/current").and_then(Value::as_u64).unwrap_or(0);
        Ok(cpu > 50_000_000 && limit == 67_108_864 && pids == 1)
    })
}

fn kill_delivers_a_signal(t: &Test<'_>) -> Result<()> {
    detached(t, "", "trap 'exit 3' USR1; while :; do sleep 0.1; done")?;
    std::thread::sleep(Duration::from_millis(500));
    t.ok("task kill --signal USR1 {}", "")?;
    wait_for(t, "STOPPED")?;
    t.fails("task delete {}", "", 0, "exit code 3")
}

fn kill_all_without_a_pid_namespace(t: &Test<'_>) -> Result<()> {
    detached(t, "--with-ns pid:/proc/1/ns/pid", "sleep 8765 & sleep 8765 & wait")?;
    t.ok("task kill --all --signal KILL {}", "")?;
    wait_for(t, "STOPPED")?;
    until("all of it ended", Duration::from_secs(10), || {
        for entry in std::fs::read_dir("/proc")? {
            if std::fs::read(entry?.path().join("cmdline")).unwrap_or_default() == b"sleep\x008765\0" {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

fn processes_are_listed(t: &Test<'_>) -> Result<()> {
    detached(t, "", "sleep 1000 & sleep 1000 & wait")?;
    until("three processes", Duration::from_secs(10), || Ok(t.ok("task ps {}", "")?.lines().count() == 4))
}

fn user_namespace(t: &Test<'_>) -> Result<()> {
    let script = "awk '{print $1, $2, $3}' /proc/self/uid_map /proc/self/gid_map; id -u; touch /tmp/file; stat -c %u /tmp/file /bin/busybox";
    prints(t, "--uidmap 0:200000:5000 --gidmap 0:300000:5000", script, "0 200000 5000\n0 300000 5000\n0\n0\n0")
}

fn limits(t: &Test<'_>) -> Result<()> {
    detached(t, "--memory-limit 67108864 --cpus 0.5 --cpu-shares 512", "sleep 1000; true")?;
    for (file, want) in [
        ("memory/test/{}/memory.limit_in_bytes", "67108864"),
        ("cpu/test/{}/cpu.cfs_quota_us", "50000"),
        ("cpu/test/{}/cpu.shares", "512"),
    ] {
        let path = format!("/sys/fs/cgroup/{}", file.replace("{}", t.name));
        let got = std::fs::read_to_string(&path)?;
        ensure!(got.trim() == want, "{path}: {got}");
    }
    Ok(())
}

fn read_only_root(t: &Test<'_>) -> Result<()> {
    prints(t, "--read-only", "touch /file 2>&1 | grep -c Read-only", "1")
}

fn bind_mounts(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?;
    let folder = folder.display();
    let options = format!(
        "--mount type=bind,src={folder},dst=/rw,options=rbind:rw --mount type=bind,src={folder},dst=/ro,options=rbind:ro \
         --mount type=tmpfs,src=tmpfs,dst=/t,options=size=1m:mode=700"
    );
    let script = "echo inside > /rw/file; cat /ro/file; touch /ro/other 2>&1 | grep -c Read-only; stat -c %a /t";
    prints(t, &options, script, "inside\n1\n700")
}

fn capabilities(t: &Test<'_>) -> Result<()> {
    let script = "grep CapEff /proc/self/status | cut -f2";
    prints(t, "", script, "00000000a80425fb")?;
    prints(t, "--cap-drop CAP_CHOWN --cap-add CAP_NET_ADMIN", script, "00000000a80435fa")
}

fn seccomp_default(t: &Test<'_>) -> Result<()> {
    prints(t, "", "grep Seccomp: /proc/self/status", "Seccomp:\t0")?;
    prints(
        t,
        "--seccomp",
        "grep Seccomp: /proc/self/status; unshare -U true 2>&1 | grep -c permitted",
        "Seccomp:\t2\n1",
    )
}

fn seccomp_profile(t: &Test<'_>) -> Result<()> {
    let file = t.folder()?.join("profile.json");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 37}]}"#;
    std::fs::write(&file, profile)?;
    let options = format!("--seccomp --seccomp-profile {}", file.display());
    prints(t, &options, "mkdir /tmp/x 2>&1 | grep -c 'No locks available'", "1")
}

fn joined_namespaces(t: &Test<'_>) -> Result<()> {
    let file = t.folder()?.join("pid");
    detached(t, &format!("--pid-file {}", file.display()), "exec sleep 6543")?;
    let pid = std::fs::read_to_string(&file)?;
    let pid = pid.trim();
    let kinds = ["pid", "network", "ipc", "uts"];
    let options: Vec<String> = kinds
        .iter()
        .map(|kind| format!("--with-ns {kind}:/proc/{pid}/ns/{}", if *kind == "network" { "net" } else { kind }))
        .collect();
    let script = "for n in pid net ipc uts; do readlink /proc/self/ns/$n; done; ps | grep -c '[s]leep 6543'";
    let got = run(t, &format!("--rm {}", options.join(" ")), "-second", script)?.ok()?;
    let mut want = String::new();
    for kind in ["pid", "net", "ipc", "uts"] {
        want.push_str(&format!("{}\n", std::fs::read_link(format!("/proc/{pid}/ns/{kind}"))?.display()));
    }
    ensure!(got == format!("{want}1"), "{got}, not {want}1");
    Ok(())
}

fn network_of_the_host(t: &Test<'_>) -> Result<()> {
    let host = std::fs::read_link("/proc/self/ns/net")?.display().to_string();
    prints(t, "--net-host", "readlink /proc/self/ns/net", &host)
}

fn privileged(t: &Test<'_>) -> Result<()> {
    // ctr asks for the capabilities of its own bounding set, so a machine without all of them runs it too.
    let script =
        "mkdir /tmp/m && mount -t tmpfs none /tmp/m && echo mounted; grep -c ' /proc/sys ' /proc/mounts || true";
    prints(t, "--privileged", script, "mounted\n0")?;
    let all = run(t, "--rm --cap-add CAP_SYS_RESOURCE", "-all", "echo started")?;
    ensure!((all.code == 0) != lacks_resource_capability()?, "{all:?}");
    Ok(())
}

fn device(t: &Test<'_>) -> Result<()> {
    prints(t, "--device /dev/fuse", "stat -c %t:%T /dev/fuse; : < /dev/fuse && echo opened", "a:e5\nopened")
}

fn root_file_system_from_a_folder(t: &Test<'_>) -> Result<()> {
    let runtime = t.cell.runtime.path.display();
    let root = t.cell.dir.join("image/root");
    let command = format!(
        "run --rm --read-only --runc-binary {runtime} --rootfs {} {{}} /bin/cat /data/from-image",
        root.display()
    );
    t.prints(&command, "", "image")
}

fn whole_configuration_from_a_file(t: &Test<'_>) -> Result<()> {
    let file = t.folder()?.join("config.json");
    let config = format!(
        r#"{{"ociVersion": "1.0.2", "root": {{"path": "{}", "readonly": true}}, "hostname": "from-file",
            "process": {{"cwd": "/data", "user": {{"uid": 5, "gid": 6, "umask": 23}}, "env": ["PATH=/bin"],
                "args": ["sh", "-c", "hostname; pwd; id -u; umask; cat /proc/sys/kernel/hostname"]}},
            "mounts": [{{"destination": "/proc", "type": "proc", "source": "proc"}}],
            "linux": {{"cgroupsPath": "/test/{}", "namespaces": [{{"type": "pid"}}, {{"type": "uts"}}, {{"type": "mount"}}]}}}}"#,
        t.cell.dir.join("image/root").display(),
        t.name
    );
    std::fs::write(&file, config)?;
    let runtime = t.cell.runtime.path.display();
    let command = format!("run --rm --runc-binary {runtime} --config {} {{}}", file.display());
    t.prints(&command, "", "from-file\n/data\n5\n0027\nfrom-file")
}

fn logs_to_a_file(t: &Test<'_>) -> Result<()> {
    let file = t.folder()?.join("log");
    detached(t, &format!("--log-uri file://{}", file.display()), "echo into the log")?;
    wait_for(t, "STOPPED")?;
    let text = std::fs::read_to_string(&file)?;
    ensure!(text == "into the log\n", "{text:?}");
    Ok(())
}
