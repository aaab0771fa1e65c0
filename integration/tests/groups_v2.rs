//! A container's groups where cgroup v2 is alone: who joins them, whose they are, what is nested in them, who removes them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use integration::group::hierarchy;
use integration::host::eventually;
use integration::requires::Need;
use integration::{Bundle, Container, Sandbox, case_with, json};

/// Where v2 has the controllers.
const V2: &[Need] = &[Need::V2Alone];

/// A bundle with its own groups mounted read-write.
fn with_groups(sb: &Sandbox) -> Bundle {
    let options = ["nosuid", "noexec", "nodev", "rw"];
    sb.bundle().without_mount("/sys/fs/cgroup").mount("cgroup", "/sys/fs/cgroup", "cgroup", &options)
}

#[test]
fn a_frozen_container_makes_no_progress() {
    case_with(V2, |sb| {
        let dir = sb.host_dir("count");
        let b = sb.bundle().bind(&dir, "/data", &[]).sh("while :; do echo x >> /data/n; done");
        let c = sb.detached(&b);
        let length = || fs::metadata(dir.join("n")).map(|meta| meta.len()).unwrap_or_default();
        eventually("it counts", || length() > 10);
        sb.call(&["pause", &c.id]).run().ok();
        assert_eq!(sb.status(&c.id), "paused");
        let before = length();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(length(), before);
        sb.call(&["resume", &c.id]).run().ok();
        eventually("it counts on", || length() > before);
    });
}

/// A container that hands controllers on to groups of its own, as systemd in a container does.
fn nested(sb: &Sandbox) -> Container {
    let script = "cd /sys/fs/cgroup && mkdir init deep deep/er && echo 1 > init/cgroup.procs \
                  && echo '+memory +pids' > cgroup.subtree_control && echo ready; \
                  sleep 1000 & echo $! > deep/er/cgroup.procs; wait";
    let c = sb.detached(&with_groups(sb).sh(script));
    eventually("it is ready", || c.output.stdout_now().contains("ready"));
    c
}

#[test]
fn exec_joins_the_first_process_where_the_own_group_takes_none() {
    case_with(V2, |sb| {
        let c = nested(sb);
        assert_eq!(sb.exec(&c.id, &["cat", "/proc/self/cgroup"]).ok(), "0::/init");
        let placed = sb.exec_with(&c.id, &["--cgroup", "deep/er"], &["cat", "/proc/self/cgroup"]);
        assert_eq!(placed.ok(), "0::/deep/er");
        let refused = sb.exec_with(&c.id, &["--cgroup", "/"], &["true"]);
        refused.fails_saying("cgroup.subtree_control");
    });
}

#[test]
fn groups_that_the_container_made_go_with_it() {
    case_with(V2, |sb| {
        let c = nested(sb);
        let listed = sb.call(&["ps", "--format", "json", &c.id]).run().json();
        assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
        sb.delete_force(&c.id).ok();
        assert!(!sb.cgroup("cgroup", &c.id).exists());
    });
}

#[test]
fn kill_all_reaches_groups_that_the_container_made() {
    case_with(V2, |sb| {
        let script = "cd /sys/fs/cgroup && mkdir -p a/b && { sleep 1000 & echo $! > a/b/cgroup.procs; } && echo ready; wait; sleep 1000";
        let c = sb.detached(&with_groups(sb).without_namespace("pid").sh(script));
        eventually("it is ready", || c.output.stdout_now().contains("ready"));
        sb.call(&["kill", "--all", &c.id, "KILL"]).run().ok();
        eventually("all are gone", || sb.cgroup_read("cgroup", &c.id, "cgroup.events").contains("populated 0"));
        sb.delete(&c.id).ok();
    });
}

#[test]
fn a_group_that_was_removed_by_somebody_is_noticed() {
    case_with(V2, |sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let aside = sb.cgroup("cgroup", "aside");
        fs::create_dir(&aside).expect("mkdir");
        fs::write(aside.join("cgroup.procs"), c.pid.to_string()).expect("move");
        fs::remove_dir(sb.cgroup("cgroup", &c.id)).expect("rmdir");
        sb.exec(&c.id, &["true"]).fails_saying("was removed by somebody");
        sb.call(&["update", "--pids-limit", "5", &c.id]).run().fails_saying("was removed by somebody");
        assert_eq!(sb.status(&c.id), "running");
        sb.kill(&c.id, "KILL").ok();
        sb.wait_status(&c.id, "stopped");
        sb.delete(&c.id).ok();
        fs::remove_dir(&aside).expect("rmdir");
    });
}

/// A process in a cgroup namespace can be born in groups below its root alone, and the container's is beside it.
#[test]
fn a_cgroup_namespace_is_joined_together_with_a_user_namespace() {
    case_with(V2, |sb| {
        let of = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        for (holder, joined) in
            [(sb.bundle().user_namespace(), &["user", "cgroup"][..]), (sb.bundle(), &["cgroup"][..])]
        {
            let holder = sb.detached(&holder.namespace("cgroup", None).sleeper());
            let mut b = sb.bundle().without_mount("/sys/fs/cgroup").user_namespace();
            for kind in joined {
                b = b.namespace(kind, Some(&format!("/proc/{}/ns/{kind}", holder.pid)));
            }
            let c = sb.detached(&b.sleeper());
            for kind in joined {
                assert_eq!(of(c.pid, kind), of(holder.pid, kind), "{kind}");
            }
            let pids = sb.cgroup_read("cgroup", &c.id, "cgroup.procs");
            assert_eq!(pids.lines().collect::<Vec<_>>(), [c.pid.to_string()], "it alone is in its own group");
            assert_eq!(sb.exec(&c.id, &["cat", "/proc/self/cgroup"]).ok(), format!("0::/../{}", c.id));
        }
    });
}

#[test]
fn the_group_is_the_containers_by_the_rule_of_the_specification() {
    case_with(V2, |sb| {
        let owner = |b: Bundle| {
            let b = b.set("/process/user/uid", json!(1000)).sleeper();
            sb.create(&b).ok();
            let uid = |file: &str| {
                std::os::unix::fs::MetadataExt::uid(&fs::metadata(sb.cgroup("cgroup", &b.id).join(file)).expect("stat"))
            };
            (uid("."), uid("cgroup.procs"), uid("pids.max"))
        };
        assert_eq!(owner(with_groups(sb)), (1000, 1000, 0));
        assert_eq!(owner(with_groups(sb).user_namespace()), (101_000, 101_000, 0));
        // Mounted read-only; and without a cgroup namespace.
        assert_eq!(owner(sb.bundle()), (0, 0, 0));
        assert_eq!(owner(with_groups(sb).without_namespace("cgroup")), (0, 0, 0));
    });
}

#[test]
fn a_controller_that_a_parent_does_not_hand_on_is_named() {
    case_with(V2, |sb| {
        let busy = hierarchy("cgroup").join(&sb.name);
        fs::create_dir(&busy).expect("mkdir");
        let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
        fs::write(busy.join("cgroup.procs"), sleeper.id().to_string()).expect("move");
        let b = sb.bundle().set("/linux/resources/memory", json!({ "limit": 67_108_864 })).sleeper();
        let out = sb.create(&b);
        // Limits of threads can be had there, in a threaded group.
        let threads = sb.bundle().set("/linux/resources/pids", json!({ "limit": 9 })).args(&["true"]);
        let outcome = sb.run(&threads);
        let kind = fs::read_to_string(busy.join("cgroup.type")).expect("read");
        sleeper.kill().expect("kill");
        sleeper.wait().expect("reap");
        let expected = format!("{} does not hand the memory controller on: it has 1 process(es)", busy.display());
        assert!(out.fails().contains(&expected), "{out:#?}");
        outcome.ok();
        assert_eq!(kind.trim(), "domain threaded");
    });
}

/// A parent that is a partition of one CPU; what it and those above it had comes back with the value.
struct Partition {
    path: PathBuf,
}

impl Partition {
    fn make(sb: &Sandbox, kind: &str) -> Partition {
        let path = hierarchy("cgroup").join(&sb.name);
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset").expect("hand cpuset on");
        fs::create_dir(&path).expect("mkdir");
        let partition = Partition { path };
        partition.write("cpuset.cpus", "1");
        partition.write("cpuset.cpus.exclusive", "1");
        partition.write("cpuset.cpus.partition", kind);
        partition
    }

    fn write(&self, file: &str, value: &str) {
        fs::write(self.path.join(file), value).unwrap_or_else(|e| panic!("write {value:?} to {file}: {e}"));
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        // Its CPU is everybody's again.
        if self.path.exists() {
            fs::write(self.path.join("cpuset.cpus.partition"), "member").expect("give the CPU back");
        }
    }
}

#[test]
fn a_container_may_be_a_partition_of_cpus() {
    case_with(&[Need::V2Alone, Need::OwnMachine, Need::Cpus(2)], |sb| {
        for (parent, kind) in [("root", "root"), ("root", "isolated"), ("member", "isolated")] {
            let above = Partition::make(sb, parent);
            let values = json!({ "cpuset.cpus": "1", "cpuset.cpus.exclusive": "1", "cpuset.cpus.partition": kind });
            let b = sb.bundle().set("/linux/resources/unified", values).sleeper();
            let c = sb.detached(&b);
            assert_eq!(sb.cgroup_read("cpuset", &c.id, "cpuset.cpus.partition"), kind, "below a {parent}");
            assert_eq!(sb.cgroup_read("cpuset", &c.id, "cpuset.cpus.effective"), "1");
            assert_eq!(sb.exec(&c.id, &["nproc"]).ok(), "1");
            // Nobody else has it.
            let others = fs::read_to_string("/sys/fs/cgroup/cpuset.cpus.effective").expect("read");
            assert!(!others.trim().ends_with('1'), "{others}");
            sb.delete_force(&c.id).ok();
            drop(above);
            fs::remove_dir(hierarchy("cgroup").join(&sb.name)).expect("rmdir");
            let all = fs::read_to_string("/sys/fs/cgroup/cpuset.cpus.effective").expect("read");
            assert!(all.trim().ends_with('1'), "{all}");
        }
    });
}
