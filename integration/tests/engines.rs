//! podman and containerd on a machine of their own, with systemd: limits, life, the end by OOM and cleaning up, by each way to make
//! groups that an engine can choose. The large tables of cases are in `clients_podman` and `clients_containerd`.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use integration::group;
use integration::host::{eventually, v2_alone};
use integration::requires::{Need, PERL, skip_without};
use integration::{Output, Sandbox, case_with};

/// Who makes the groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    /// The runtime.
    Cgroupfs,
    /// systemd, asked by the runtime.
    Systemd,
}

impl Manager {
    fn word(self) -> &'static str {
        match self {
            Manager::Cgroupfs => "cgroupfs",
            Manager::Systemd => "systemd",
        }
    }
}

const PODMAN: Need = Need::Program("/usr/bin/podman");
const CONTAINERD: Need = Need::Program("/usr/bin/containerd");

/// podman with a storage of its own.
struct Podman<'a> {
    sb: &'a Sandbox,
    manager: Manager,
}

impl Podman<'_> {
    /// The options that come first in every call.
    fn options(&self) -> Vec<String> {
        let path = |name: &str| self.sb.dir.join(name).display().to_string();
        let runtime = self.sb.runtime.path.display().to_string();
        let places = [("--root", path("graph")), ("--runroot", path("run")), ("--tmpdir", path("tmp"))];
        let manager = self.manager.word().to_owned();
        let rest = [("--runtime", runtime), ("--cgroup-manager", manager)];
        let fixed = [("--events-backend", "file".to_owned()), ("--storage-driver", "vfs".to_owned())];
        let all = places.into_iter().chain(rest).chain(fixed);
        all.flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.sb.program("/usr/bin/podman").args(self.options()).args(args).run()
    }

    /// `podman run OPTIONS --rootfs DIR sh -c SCRIPT`.
    fn script(&self, options: &[&str], script: &str) -> Output {
        let bundle = self.sb.bundle();
        let rootfs = bundle.rootfs();
        let base = ["run", "--network=none", "--security-opt=apparmor=unconfined"];
        let image = ["--rootfs", rootfs.to_str().expect("UTF-8"), "sh", "-c", script];
        self.run(&[&base[..], options, &image].concat())
    }
}

/// Runs a case with podman where the machine may be changed.
fn podman(manager: Manager, body: impl FnOnce(&Podman<'_>)) {
    case_with(&[Need::OwnMachine, Need::Systemd, PODMAN], |sb| {
        sb.host_dir("tmp");
        body(&Podman { sb, manager });
    });
}

/// Folders of groups that have this text in their name, in all hierarchies.
fn groups_named(text: &str) -> Vec<PathBuf> {
    let mounts = integration::host::cgroup_mounts();
    let folders = mounts.iter().flat_map(|mount| integration::host::folders_deepest_first(mount));
    folders.filter(|folder| folder.file_name().is_some_and(|name| name.to_string_lossy().contains(text))).collect()
}

/// Prints the limits of the container in the words of its layout.
fn limits_script() -> &'static str {
    match v2_alone() {
        Some(_) => "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max",
        None => {
            "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes; echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us); cat pids/pids.max"
        }
    }
}

fn podman_sets_limits(manager: Manager) {
    podman(manager, |podman| {
        let options = ["--rm", "--memory=64m", "--cpus=0.5", "--pids-limit=20", "--cgroupns=private"];
        assert_eq!(podman.script(&options, limits_script()).ok(), "67108864\n50000 100000\n20");
    });
}

fn podman_ends_by_oom(manager: Manager) {
    podman(manager, |podman| {
        let name = format!("{}-oom", podman.sb.name);
        let options = [&format!("--name={name}")[..], "--memory=16m", "--memory-swap=16m"];
        podman.script(&options, "exec awk 'BEGIN { a = \"x\"; while (length(a) < 200000000) a = a a }'").code_is(137);
        // `OOMKilled` stays false with podman 4.3 on v2, whichever runtime it is.
        assert_eq!(podman.run(&["inspect", "--format", "{{.State.ExitCode}}", &name]).ok(), "137");
        podman.run(&["rm", &name]).ok();
    });
}

fn podman_leads_a_life(manager: Manager) {
    podman(manager, |podman| {
        let name = format!("{}-life", podman.sb.name);
        let id = podman
            .script(
                &["-d", &format!("--name={name}"), "--memory=64m"],
                "trap 'exit 9' TERM; while :; do sleep 0.2; done",
            )
            .ok();
        assert_eq!(podman.run(&["exec", &name, "sh", "-c", "echo inside; exit 3"]).code_is(3).stdout.trim(), "inside");
        podman.run(&["pause", &name]).ok();
        assert_eq!(podman.run(&["inspect", "--format", "{{.State.Status}}", &name]).ok(), "paused");
        podman.run(&["unpause", &name]).ok();
        podman.run(&["update", "--memory=80m", &name]).ok();
        let groups = groups_named(&id);
        let limited = groups
            .iter()
            .find(|group| group.join("memory.max").exists() || group.join("memory.limit_in_bytes").exists());
        assert_eq!(group::read(limited.expect("a group with memory"), "memory.limit_in_bytes"), "83886080");
        let stats = podman.run(&["stats", "--no-stream", "--no-reset", "--format", "{{.MemUsage}}", &name]).ok();
        assert!(stats.contains(" / ") && !stats.starts_with("0B"), "{stats}");
        podman.run(&["stop", "--time=20", &name]).ok();
        assert_eq!(podman.run(&["inspect", "--format", "{{.State.ExitCode}}", &name]).ok(), "9");
        podman.run(&["start", &name]).ok();
        podman.run(&["rm", "--force", "--time=0", &name]).ok();
        eventually("no group is left", || groups_named(&id).is_empty());
        eventually("no unit is left", || units_named(podman.sb, &id).is_empty());
    });
}

/// What systemd still lists, failed units too, with this text in its name.
fn units_named(sb: &Sandbox, text: &str) -> String {
    let pattern = format!("*{text}*");
    sb.program("/usr/bin/systemctl").args(["list-units", "--all", "--plain", "--no-legend", &pattern]).run().ok()
}

fn podman_gives_devices(manager: Manager) {
    podman(manager, |podman| {
        let script = "(: </dev/mine) && echo read; (: >/dev/mine) 2>&1 | grep -c 'not permitted'";
        assert_eq!(podman.script(&["--rm", "--device=/dev/fuse:/dev/mine:r"], script).ok(), "read\n1");
    });
}

/// Says that it is ready once it is told to: /data/go.
const NOTIFY: &str = "use Socket; select undef, undef, undef, 0.1 until -e '/data/go'; \
    socket(S, PF_UNIX, SOCK_DGRAM, 0) && connect(S, sockaddr_un($ENV{NOTIFY_SOCKET})) or die \"connect: $!\"; \
    send(S, \"READY=1\\n\", 0) or die \"send: $!\"; $SIG{TERM} = sub { exit 0 }; sleep 1 while 1";

/// A unit of the type `notify` is up when the program in its container says so, and ends with it.
fn podman_tells_a_unit(manager: Manager) {
    podman(manager, |podman| {
        if skip_without(&[PERL]) {
            return;
        }
        let (sb, name) = (podman.sb, format!("{}-unit", podman.sb.name));
        let (rootfs, data) = (sb.bundle().rootfs(), sb.host_dir("data"));
        let unit = format!("{name}.service");
        let property = |name: &str| {
            sb.program("/usr/bin/systemctl").args(["show", "--value", "--property", name, &unit]).run().ok()
        };
        let words = "--quiet --service-type=notify --property=NotifyAccess=all --property=TimeoutStartSec=600";
        let call = sb.program("/usr/bin/systemd-run").args(words.split(' ')).args(["--unit", &unit, "/usr/bin/podman"]);
        let call =
            call.args(podman.options()).args(["run", "-d", "--rm", "--sdnotify=container", "--cgroups=no-conmon"]);
        let call = call.args(["--network=none", "--security-opt=apparmor=unconfined", &format!("--name={name}")]);
        let call =
            ["/usr", "/lib", "/lib64"].iter().fold(call, |call, path| call.arg(format!("--volume={path}:{path}:ro")));
        let call = call.arg(format!("--volume={}:/data", data.display()));
        let mut running = call.arg("--rootfs").arg(&rootfs).args(["/usr/bin/perl", "-e", NOTIFY]).spawn();
        let started = || podman.run(&["container", "exists", &name]).code == 0;
        eventually("the container is there", || running.ended() || started());
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert!(!running.ended(), "nothing was said yet: {}", running.stderr());
        assert_eq!(property("ActiveState"), "activating");
        fs::write(data.join("go"), "").expect("write");
        running.wait(integration::runtime::DEADLINE).ok();
        assert_eq!(property("ActiveState"), "active");
        let main = fs::read_to_string(format!("/proc/{}/comm", property("MainPID"))).expect("the main process");
        assert_eq!(main.trim(), "conmon");
        sb.program("/usr/bin/systemctl").args(["stop", &unit]).run().ok();
        eventually("the container is gone", || !started());
        assert_eq!(units_named(sb, &name), "");
    });
}

macro_rules! of_podman {
    ($($name:ident: $case:ident($manager:ident);)*) => { $(
        #[test]
        fn $name() {
            $case(Manager::$manager);
        }
    )* };
}

of_podman! {
    podman_sets_limits_by_cgroupfs: podman_sets_limits(Cgroupfs);
    podman_ends_by_oom_by_cgroupfs: podman_ends_by_oom(Cgroupfs);
    podman_leads_a_life_by_cgroupfs: podman_leads_a_life(Cgroupfs);
    podman_gives_devices_by_cgroupfs: podman_gives_devices(Cgroupfs);
    podman_sets_limits_by_systemd: podman_sets_limits(Systemd);
    podman_ends_by_oom_by_systemd: podman_ends_by_oom(Systemd);
    podman_leads_a_life_by_systemd: podman_leads_a_life(Systemd);
    podman_gives_devices_by_systemd: podman_gives_devices(Systemd);
    podman_tells_a_unit_by_systemd: podman_tells_a_unit(Systemd);
}

/// A containerd of the test's own.
struct Containerd<'a> {
    sb: &'a Sandbox,
    daemon: Child,
}

impl<'a> Containerd<'a> {
    fn start(sb: &'a Sandbox) -> Containerd<'a> {
        let dir = sb.host_dir("containerd");
        let at = |name: &str| dir.join(name).display().to_string();
        let text = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = \"{}\"\n",
            at("root"),
            at("state"),
            at("socket")
        );
        fs::write(dir.join("config.toml"), text).expect("write");
        let log = fs::File::create(dir.join("log")).expect("create");
        let mut command = Command::new("/usr/bin/containerd");
        command.arg("--config").arg(dir.join("config.toml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let containerd = Containerd { sb, daemon: command.spawn().expect("start containerd") };
        eventually("containerd answers", || containerd.ctr(&["version"]).code == 0);
        containerd
    }

    fn ctr(&self, args: &[&str]) -> Output {
        let socket = self.sb.dir.join("containerd/socket");
        self.sb.program("/usr/bin/ctr").arg("--address").arg(socket).args(args).run()
    }

    /// Deletes a task that was killed: ctr succeeds and tells the exit code as a warning.
    fn delete_task(&self, id: &str) {
        let out = self.ctr(&["task", "delete", id]);
        out.ok();
        assert!(out.stderr.contains("exit code 137"), "{out:?}");
    }

    /// `ctr run OPTIONS --rootfs DIR ID sh -c SCRIPT`.
    fn script(&self, options: &[&str], id: &str, script: &str) -> Output {
        let bundle = self.sb.bundle();
        let rootfs = bundle.rootfs();
        let runtime = self.sb.runtime.path.to_str().expect("UTF-8");
        let base = ["run", "--runc-binary", runtime];
        // ctr sets no PATH.
        let rest = ["--rootfs", rootfs.to_str().expect("UTF-8"), id, "/bin/sh", "-c", script];
        self.ctr(&[&base[..], options, &rest].concat())
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        self.daemon.kill().expect("end containerd");
        self.daemon.wait().expect("reap containerd");
    }
}

fn containerd(body: impl FnOnce(&Containerd<'_>, &str)) {
    case_with(&[Need::OwnMachine, Need::Systemd, CONTAINERD], |sb| {
        body(&Containerd::start(sb), &format!("{}-t", sb.name));
    });
}

#[test]
fn containerd_sets_limits() {
    containerd(|containerd, id| {
        let options = ["--rm", "--memory-limit=67108864", "--cpu-quota=50000", "--cpu-period=100000"];
        let read = match v2_alone() {
            Some(_) => "cat /proc/self/cgroup",
            None => "cat /proc/self/cgroup | grep memory",
        };
        let path = containerd.script(&options, id, &format!("{read}; sleep 0.3")).ok();
        assert!(path.ends_with(":/") || path.ends_with(id), "{path}");
        let options = [&options[1..], &["--detach"]].concat();
        containerd.script(&options, id, "exec sleep 1000").ok();
        let groups = groups_named(id);
        let limited = groups
            .iter()
            .find(|group| group.join("memory.max").exists() || group.join("memory.limit_in_bytes").exists());
        let limited = limited.unwrap_or_else(|| panic!("no group with memory in {groups:?}"));
        assert_eq!(group::read(limited, "memory.limit_in_bytes"), "67108864");
        let figures = containerd.ctr(&["task", "metrics", id]).ok();
        assert!(figures.contains("pids.current") || figures.contains("memory.usage"), "{figures}");
        containerd.ctr(&["task", "kill", "--signal", "KILL", id]).ok();
        eventually("the task has ended", || containerd.ctr(&["task", "ls"]).ok().contains("STOPPED"));
        containerd.delete_task(id);
        containerd.ctr(&["container", "delete", id]).ok();
        eventually("no group is left", || groups_named(id).is_empty());
    });
}

#[test]
fn containerd_sets_limits_by_systemd() {
    containerd(|containerd, id| {
        let slice = format!("system.slice:skep:{id}");
        let limits = ["--memory-limit=67108864", "--cpu-quota=50000", "--cpu-period=100000"];
        let options = [&limits[..], &["--detach", "--runc-systemd-cgroup", "--cgroup", &slice]].concat();
        containerd.script(&options, id, "exec sleep 1000").ok();
        let unit = format!("skep-{id}.scope");
        assert!(units_named(containerd.sb, id).starts_with(&unit));
        let value = |property: &str| {
            containerd
                .sb
                .program("/usr/bin/systemctl")
                .args(["show", "--value", "--property", property, &unit])
                .run()
                .ok()
        };
        let limit = if v2_alone().is_some() { "MemoryMax" } else { "MemoryLimit" };
        assert_eq!((value(limit).as_str(), value("ActiveState").as_str()), ("67108864", "active"));
        containerd.ctr(&["task", "kill", "--signal", "KILL", id]).ok();
        eventually("the task has ended", || containerd.ctr(&["task", "ls"]).ok().contains("STOPPED"));
        containerd.delete_task(id);
        containerd.ctr(&["container", "delete", id]).ok();
        eventually("no unit is left", || units_named(containerd.sb, id).is_empty());
        eventually("no group is left", || groups_named(id).is_empty());
    });
}

#[test]
fn containerd_runs_execs_and_pauses() {
    containerd(|containerd, id| {
        containerd.script(&["--detach"], id, "exec sleep 1000").ok();
        let said = containerd.ctr(&[
            "task",
            "exec",
            "--exec-id",
            "one",
            id,
            "/bin/sh",
            "-c",
            "echo inside; sleep 0.5; exit 4",
        ]);
        assert_eq!(said.code_is(4).stdout.trim(), "inside");
        containerd.ctr(&["task", "pause", id]).ok();
        eventually("it is paused", || containerd.ctr(&["task", "ls"]).ok().contains("PAUSED"));
        containerd.ctr(&["task", "resume", id]).ok();
        eventually("it runs", || containerd.ctr(&["task", "ls"]).ok().contains("RUNNING"));
        containerd.ctr(&["task", "kill", "--all", "--signal", "KILL", id]).ok();
        eventually("the task has ended", || containerd.ctr(&["task", "ls"]).ok().contains("STOPPED"));
        containerd.delete_task(id);
        containerd.ctr(&["container", "delete", id]).ok();
    });
}
