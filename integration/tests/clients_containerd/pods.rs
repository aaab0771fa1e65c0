//! Pods through containerd's CRI plugin: sandboxes, containers that join them, what a kubelet asks for.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::command::until;
use integration::client::cri::{Container, Cri, Mode, Pod, State};
use integration::client::{Case, Test, lacks_resource_capability};
use integration::protobuf::Message;

pub(crate) const CASES: [Case; 19] = cases![
    runtime_is_ready,
    sandbox_alone,
    container_joins_the_sandbox,
    containers_share_the_pid_namespace,
    sandbox_on_the_host_network,
    pod_address_answers,
    exec_sync_gives_both_streams,
    exec_sync_times_out,
    exit_code_and_log,
    stop_with_a_handler,
    stop_by_force,
    create_without_start,
    resources_and_their_update,
    figures_of_a_container,
    security_context,
    privileged_container,
    capability_that_the_host_lacks,
    mounts_and_environment,
    sysctls_of_the_pod,
];

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn sleeper(name: &str) -> Container {
    Container::script(name, SLEEP)
}

fn runtime_is_ready(t: &Test<'_>) -> Result<()> {
    let status = Cri::new(t)?.call("Status", &Message::new())?.message(1)?;
    let ready: Vec<String> = status
        .messages(1)?
        .iter()
        .filter(|condition| condition.number(2) == 1)
        .map(|condition| condition.text(1))
        .collect();
    ensure!(ready == ["RuntimeReady", "NetworkReady"], "{ready:?}");
    Ok(())
}

fn sandbox_alone(t: &Test<'_>) -> Result<()> {
    let cri = Cri::new(t)?;
    let request = Message::new().bytes(1, cri.run_sandbox(&Pod::new(t.name))?);
    let status = cri.call("PodSandboxStatus", &request)?.message(1)?;
    ensure!(status.number(3) == 0 && status.message(5)?.text(1).starts_with("10.99.0."), "{status:?}");
    cri.call("StopPodSandbox", &request)?;
    let status = cri.call("PodSandboxStatus", &request)?.message(1)?;
    ensure!(status.number(3) == 1, "{status:?}");
    cri.call("RemovePodSandbox", &request)?;
    ensure!(cri.call("PodSandboxStatus", &request).is_err(), "it is still there");
    Ok(())
}

fn container_joins_the_sandbox(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let script = "hostname; for n in net ipc uts; do readlink /proc/self/ns/$n; done; readlink /proc/self/ns/pid; cat /proc/1/comm";
    let first = cri.start(&sandbox, &pod, &sleeper("first"))?;
    let second = cri.start(&sandbox, &pod, &sleeper("second"))?;
    let (first, second) = (cri.exec_ok(&first, script)?, cri.exec_ok(&second, script)?);
    let (first, second): (Vec<&str>, Vec<&str>) = (first.lines().collect(), second.lines().collect());
    ensure!(first[0] == "pod-host" && first[..4] == second[..4], "{first:?}, {second:?}");
    ensure!(first[4] != second[4] && first[5] == "sh", "{first:?}, {second:?}");
    Ok(())
}

fn containers_share_the_pid_namespace(t: &Test<'_>) -> Result<()> {
    let (cri, mut pod) = (Cri::new(t)?, Pod::new(t.name));
    pod.pid = Mode::Pod;
    let sandbox = cri.run_sandbox(&pod)?;
    let first = cri.start(&sandbox, &pod, &Container::script("first", "exec sleep 7531"))?;
    let second = cri.start(&sandbox, &pod, &sleeper("second"))?;
    let seen = cri.exec_ok(&second, "cat /proc/1/comm; ps | grep -c '[s]leep 7531'")?;
    ensure!(seen == "sleep\n1", "{seen}");
    // Ending one container of a shared namespace must end all of its processes, and only those.
    cri.stop(&first, 0)?;
    let seen = cri.exec_ok(&second, "ps | grep -c '[s]leep 7531' || true; echo still")?;
    ensure!(seen == "0\nstill", "{seen}");
    Ok(())
}

fn sandbox_on_the_host_network(t: &Test<'_>) -> Result<()> {
    let (cri, mut pod) = (Cri::new(t)?, Pod::new(t.name));
    pod.network = Mode::Node;
    let sandbox = cri.run_sandbox(&pod)?;
    let container = cri.start(&sandbox, &pod, &sleeper("only"))?;
    let host = std::fs::read_link("/proc/self/ns/net")?.display().to_string();
    ensure!(cri.exec_ok(&container, "readlink /proc/self/ns/net")? == host, "another network namespace");
    Ok(())
}

fn pod_address_answers(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    cri.start(&sandbox, &pod, &Container::script("web", "while :; do echo from-the-pod | nc -l -p 8080; done"))?;
    let status = cri.call("PodSandboxStatus", &Message::new().bytes(1, &sandbox))?.message(1)?;
    let address = status.message(5)?.text(1);
    until("an answer from the pod", Duration::from_secs(10), || {
        let output = std::process::Command::new("busybox").args(["nc", "-w", "2", &address, "8080"]).output()?;
        Ok(output.stdout == b"from-the-pod\n")
    })
}

fn exec_sync_gives_both_streams(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let container = cri.start(&sandbox, &pod, &sleeper("only"))?;
    let ran = cri.exec(&container, "echo out; echo err >&2; exit 9")?;
    ensure!((ran.code, ran.out.as_str(), ran.err.as_str()) == (9, "out", "err"), "{ran:?}");
    let many = cri.exec_ok(&container, "seq 20000")?;
    ensure!(many.lines().count() == 20_000, "{} lines", many.lines().count());
    Ok(())
}

fn exec_sync_times_out(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let container = cri.start(&sandbox, &pod, &sleeper("only"))?;
    let request = Message::new().bytes(1, &container).bytes(2, "sleep").bytes(2, "9753").number(3, 1);
    let Err(error) = cri.call("ExecSync", &request) else { anyhow::bail!("a command of 9753 s ended within one") };
    ensure!(error.to_string().contains("status 4"), "not DEADLINE_EXCEEDED: {error}");
    until("the command is killed", Duration::from_secs(10), || {
        Ok(cri.exec_ok(&container, "ps | grep -c '[s]leep 9753' || true")? == "0")
    })
}

fn exit_code_and_log(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let container = cri.start(&sandbox, &pod, &Container::script("ends", "echo out; echo err >&2; exit 7"))?;
    until("its end", Duration::from_secs(10), || Ok(cri.status(&container)? == (State::Exited, 7)))?;
    let mut log: Vec<String> = cri.log("ends")?.lines().map(str::to_owned).collect();
    log.sort();
    ensure!(log == ["stderr err", "stdout out"], "{log:?}");
    Ok(())
}

fn stop_with_a_handler(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let script = "trap 'exit 4' TERM; echo ready; while :; do sleep 0.1; done";
    let container = cri.start(&sandbox, &pod, &Container::script("only", script))?;
    until("the handler", Duration::from_secs(10), || Ok(cri.log("only")?.contains("ready")))?;
    cri.stop(&container, 20)?;
    ensure!(cri.status(&container)? == (State::Exited, 4), "{:?}", cri.status(&container)?);
    Ok(())
}

fn stop_by_force(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let container = cri.start(&sandbox, &pod, &Container::script("only", "trap '' TERM; while :; do sleep 1; done"))?;
    cri.stop(&container, 1)?;
    ensure!(cri.status(&container)? == (State::Exited, 137), "{:?}", cri.status(&container)?);
    cri.call("RemoveContainer", &Message::new().bytes(1, &container))?;
    ensure!(cri.status(&container).is_err(), "it is still there");
    Ok(())
}

fn create_without_start(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let container = cri.create(&sandbox, &pod, &sleeper("never"))?;
    ensure!(cri.status(&container)?.0 == State::Created, "{:?}", cri.status(&container)?);
    cri.call("RemoveContainer", &Message::new().bytes(1, &container)).map(drop)
}

fn resources_and_their_update(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let resources = Message::new().number(1, 100_000).number(2, 50_000).number(3, 512).number(4, 64 << 20);
    let limited = sleeper("only").with(Message::new(), resources, Message::new());
    let container = cri.start(&sandbox, &pod, &limited)?;
    let script = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu/cpu.shares memory/memory.limit_in_bytes";
    let got = cri.exec_ok(&container, script)?;
    ensure!(got == "50000\n512\n67108864", "{got}");
    let more = Message::new().number(2, 75_000).number(3, 256).number(4, 128 << 20);
    cri.call("UpdateContainerResources", &Message::new().bytes(1, &container).message(2, &more))?;
    let got = cri.exec_ok(&container, script)?;
    ensure!(got == "75000\n256\n134217728", "{got}");
    Ok(())
}

fn figures_of_a_container(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let container = cri.start(&sandbox, &pod, &Container::script("busy", "while :; do :; done"))?;
    until("a busy container's figures", Duration::from_secs(15), || {
        let stats = cri.call("ContainerStats", &Message::new().bytes(1, &container))?.message(1)?;
        let cpu = stats.message(2)?.message(2)?.number(1);
        let memory = stats.message(3)?.message(2)?.number(1);
        Ok(cpu > 50_000_000 && memory > 0)
    })
}

fn security_context(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let capabilities = Message::new().bytes(1, "NET_ADMIN").bytes(2, "CHOWN");
    // User 1000, group 1001, one more group, a read-only root, no new privileges, the default seccomp profile.
    let security = Message::new()
        .message(1, &capabilities)
        .message(5, &Message::new().number(1, 1000))
        .message(12, &Message::new().number(1, 1001))
        .number(7, 1)
        .bytes(8, [0xd0, 0x0f])
        .number(11, 1)
        .bytes(13, "/proc/keys")
        .bytes(14, "/proc/sys")
        .message(15, &Message::new().number(1, 0));
    let container = cri.start(&sandbox, &pod, &sleeper("only").with(Message::new(), Message::new(), security))?;
    let script = "id -u; id -g; id -G; touch /data/x 2>&1 | grep -c Read-only; grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status | cut -f2
        cat /proc/keys | wc -c; grep -c ' /proc/sys ' /proc/mounts";
    let got = cri.exec_ok(&container, script)?;
    ensure!(got == "1000\n1001\n1001 2000\n1\n00000000a80435fa\n1\n2\n0\n1", "{got}");
    Ok(())
}

fn privileged_container(t: &Test<'_>) -> Result<()> {
    let (cri, mut pod) = (Cri::new(t)?, Pod::new(t.name));
    pod.privileged = true;
    let sandbox = cri.run_sandbox(&pod)?;
    let privileged = sleeper("only").with(Message::new(), Message::new(), Message::new().number(2, 1));
    // containerd gives the capabilities of its own bounding set here, which every machine has.
    let container = cri.start(&sandbox, &pod, &privileged)?;
    let script = "mkdir /tmp/m && mount -t tmpfs none /tmp/m && echo mounted; grep Seccomp: /proc/1/status; test -c /dev/fuse && echo devices";
    let got = cri.exec_ok(&container, script)?;
    ensure!(got == "mounted\nSeccomp:\t0\ndevices", "{got}");
    Ok(())
}

fn capability_that_the_host_lacks(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let all = Message::new().message(1, &Message::new().bytes(1, "SYS_RESOURCE"));
    let container = cri.create(&sandbox, &pod, &sleeper("all").with(Message::new(), Message::new(), all))?;
    let started = cri.call("StartContainer", &Message::new().bytes(1, &container));
    ensure!(started.is_err() == lacks_resource_capability()?, "{started:?}");
    Ok(())
}

fn mounts_and_environment(t: &Test<'_>) -> Result<()> {
    let (cri, pod) = (Cri::new(t)?, Pod::new(t.name));
    let sandbox = cri.run_sandbox(&pod)?;
    let folder = t.folder()?.join("volume");
    std::fs::create_dir(&folder)?;
    let folder = folder.display().to_string();
    let config = Message::new()
        .bytes(5, "/home/app")
        .message(6, &Message::new().bytes(1, "MORE").bytes(2, "more"))
        .message(7, &Message::new().bytes(1, "/rw").bytes(2, &folder))
        .message(7, &Message::new().bytes(1, "/ro").bytes(2, &folder).number(3, 1));
    let container = cri.start(&sandbox, &pod, &sleeper("only").with(config, Message::new(), Message::new()))?;
    let script = "tr '\\0' '\\n' < /proc/1/environ | grep -c MORE=more; readlink /proc/1/cwd; echo x > /rw/file; cat /ro/file; touch /ro/y 2>&1 | grep -c Read-only; grep -c pod-host /etc/hostname";
    let got = cri.exec_ok(&container, script)?;
    ensure!(got == "1\n/home/app\nx\n1\n1", "{got}");
    Ok(())
}

fn sysctls_of_the_pod(t: &Test<'_>) -> Result<()> {
    let (cri, mut pod) = (Cri::new(t)?, Pod::new(t.name));
    pod.sysctls = vec![("net.ipv4.ip_unprivileged_port_start", "77"), ("kernel.shm_rmid_forced", "1")];
    let sandbox = cri.run_sandbox(&pod)?;
    let container = cri.start(&sandbox, &pod, &sleeper("only"))?;
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    let got = cri.exec_ok(&container, script)?;
    ensure!(got == "77\n1", "{got}");
    Ok(())
}
