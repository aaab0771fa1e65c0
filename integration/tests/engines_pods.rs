//! containerd's pods with systemd's cgroup driver, as a kubelet asks for them: a scope for the sandbox and for each container,
//! in the pod's slice.

use std::fs;
use std::path::Path;
use std::process::Command;

use integration::client::cri::{self, Container, Cri, Mode, Pod, State};
use integration::client::daemon::Daemon;
use integration::client::{Cli, image};
use integration::host::{self, eventually, v2_alone};
use integration::protobuf::Message;
use integration::requires::{Need, skip_without};
use integration::{Sandbox, case};

const CONTAINERD: Need = Need::Program("/usr/bin/containerd");
const CURL: Need = Need::Program("/usr/bin/curl");

/// Starts a containerd of the test's own, whose pods are systemd's.
fn start(sb: &Sandbox, socket: &str) -> Daemon {
    let dir = sb.host_dir("containerd");
    let at = |name: &str| dir.join(name).display().to_string();
    let general = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\n[grpc]\n  address = \"{socket}\"\n",
        at("root"),
        at("state")
    );
    let pods = cri::configuration(&sb.runtime.path, &sb.host_dir("cni"));
    let config = format!("{general}{pods}        SystemdCgroup = true\n");
    fs::write(dir.join("config.toml"), config).expect("write");
    let mut command = Command::new("/usr/bin/containerd");
    command.arg("--config").arg(dir.join("config.toml"));
    let answers = || Ok(ctr(sb, socket, &["version"]) == 0);
    Daemon::start(&dir, &mut command, answers).expect("containerd")
}

fn ctr(sb: &Sandbox, socket: &str, args: &[&str]) -> i32 {
    let call = sb.program("/usr/bin/ctr").args(["--address", socket, "--namespace", "k8s.io"]);
    call.args(args).deadline(integration::criu::LONG).run().code
}

fn systemctl(sb: &Sandbox, args: &[&str]) -> String {
    sb.program("/usr/bin/systemctl").args(args).run().stdout.trim().to_owned()
}

fn property(sb: &Sandbox, unit: &str, name: &str) -> String {
    systemctl(sb, &["show", "--value", "--property", name, unit])
}

/// Folders of groups that have this text in their path, in all hierarchies.
fn groups(text: &str) -> usize {
    let folders = host::cgroup_mounts().into_iter().flat_map(|mount| host::folders_deepest_first(Path::new(&mount)));
    folders.filter(|folder| folder.to_str().is_some_and(|path| path.contains(text))).count()
}

#[test]
fn a_pod_is_a_slice_with_scopes() {
    case(|sb| {
        if skip_without(&[Need::OwnMachine, Need::Systemd, CONTAINERD, CURL]) {
            return;
        }
        let socket = sb.dir.join("s").display().to_string();
        let daemon = start(sb, &socket);
        let archive = image::make_archive(&sb.dir).expect("an image").display().to_string();
        assert_eq!(ctr(sb, &socket, &["image", "import", "--snapshotter=native", &archive]), 0);
        let curl = Cli::new(&sb.dir, &Cri::program(&socket)).expect("curl");
        let cri = Cri::at(&curl, sb.host_dir("pod"));
        // Slices nest by their names.
        let outer = sb.name.replace('-', "");
        let slice = format!("{outer}-pod.slice");
        let pod = Pod { network: Mode::Node, parent: slice.clone(), ..Pod::new(&sb.name) };
        lead_a_life(sb, &cri, &pod);
        eventually("no group is left", || groups(&format!("{outer}-pod.slice/")) == 0);
        systemctl(sb, &["stop", &slice, &format!("{outer}.slice")]);
        daemon.stop().expect("containerd ends");
    });
}

fn lead_a_life(sb: &Sandbox, cri: &Cri<'_>, pod: &Pod) {
    let sandbox = cri.run_sandbox(pod).expect("a sandbox");
    let unit = |id: &str| format!("cri-containerd-{id}.scope");
    assert_eq!(property(sb, &unit(&sandbox), "Slice"), pod.parent);
    // LinuxContainerResources: memory_limit_in_bytes is field 4, cpu_quota 2, cpu_period 1.
    let limits = |memory: u64| Message::new().number(1, 100_000).number(2, 50_000).number(4, memory);
    let script = "trap 'exit 7' TERM; while :; do sleep 0.2; done";
    let container = Container::script("only", script).with(Message::new(), limits(67_108_864), Message::new());
    let id = cri.start(&sandbox, pod, &container).expect("a container");
    let scope = unit(&id);
    let memory = if v2_alone().is_some() { "MemoryMax" } else { "MemoryLimit" };
    let told = |name: &str| property(sb, &scope, name);
    assert_eq!((told("Slice").as_str(), told("ActiveState").as_str()), (pod.parent.as_str(), "active"));
    assert_eq!((told(memory).as_str(), told("CPUQuotaPerSecUSec").as_str()), ("67108864", "500ms"));

    let read = match v2_alone() {
        Some(_) => "cat /sys/fs/cgroup/memory.max",
        None => "cat /sys/fs/cgroup/memory/memory.limit_in_bytes",
    };
    assert_eq!(cri.exec_ok(&id, read).expect("an exec"), "67108864");
    let ran = cri.exec(&id, "echo inside; exit 9").expect("an exec");
    assert_eq!((ran.code, ran.out.as_str()), (9, "inside"));

    let update = Message::new().bytes(1, &id).message(2, &limits(83_886_080));
    cri.call("UpdateContainerResources", &update).expect("an update");
    assert_eq!((told(memory).as_str(), cri.exec_ok(&id, read).expect("an exec").as_str()), ("83886080", "83886080"));

    cri.stop(&id, 60).expect("it stops");
    assert_eq!(cri.status(&id).expect("a status"), (State::Exited, 7));
    cri.call("RemoveContainer", &Message::new().bytes(1, &id)).expect("it goes");
    for method in ["StopPodSandbox", "RemovePodSandbox"] {
        cri.call(method, &Message::new().bytes(1, &sandbox)).expect(method);
    }
    for id in [&id, &sandbox] {
        let pattern = format!("*{id}*");
        let listed = || systemctl(sb, &["list-units", "--all", "--plain", "--no-legend", &pattern]);
        eventually("no unit is left", || listed().is_empty());
    }
}
