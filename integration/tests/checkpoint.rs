//! `checkpoint` and `restore` with the CRIU of the machine, where it works.

use std::fs;

use integration::criu::{
    LONG, checkpoint, counter, criu, groups_mode, images, nothing_is_left, restore, start_counter, wait_for_count,
};
use integration::host::{self, eventually};
use integration::requires::Need;
use integration::{Bundle, Call, Output, Sandbox, case_with, json};

#[test]
fn a_container_goes_on_from_where_it_was() {
    case_with(&[Need::Criu], |sb| {
        let b = counter(sb);
        let before = start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        sb.call(&["state", &b.id]).run().fails_saying("does not exist");
        restore(sb, &b, &["-d"]).ok();
        assert_eq!(sb.status(&b.id), "running");
        let after = wait_for_count(sb, &b.id, before + 3);
        assert!(after < before + 1000, "{before} became {after}");
        sb.call(&["pause", &b.id]).run().ok();
        assert_eq!(sb.status(&b.id), "paused");
        sb.call(&["resume", &b.id]).run().ok();
        sb.kill(&b.id, "KILL").ok();
        sb.wait_status(&b.id, "stopped");
        sb.delete(&b.id).ok();
    });
}

/// What the container has changed is in its upper layer, which is mounted again.
#[test]
fn a_container_of_layers_goes_on_over_the_same_layers() {
    case_with(&[Need::Skep, Need::Criu], |sb| {
        let b = counter(sb);
        let (base, changes) = (sb.dir.join("base"), sb.host_dir("changes"));
        fs::rename(b.rootfs(), &base).expect("move the root file system away");
        fs::create_dir(b.rootfs()).expect("make the mount point");
        let [upper, work] = ["upper", "work"].map(|name| changes.join(name));
        for folder in [&upper, &work] {
            fs::create_dir(folder).expect("mkdir");
        }
        let layers = |more: (&str, integration::Value)| {
            let mut layers = json!({ "lower": [base], "upper": upper, "work": work });
            layers[more.0] = more.1;
            json!({ "io.skep.overlay": layers.to_string() })
        };
        let b = b.writable().set("/annotations", layers(("hide", json!(["/srv"]))));
        let before = start_counter(sb, &b);
        sb.exec_sh(&b.id, "echo mine > /mine; rm /etc/group").ok();
        for _ in 0..2 {
            checkpoint(sb, &b.id, &[]);
            restore(sb, &b, &["-d"]).ok();
            wait_for_count(sb, &b.id, before + 3);
            assert_eq!(
                sb.exec_sh(&b.id, "cat /mine; test -e /etc/group || echo gone; echo more >> /mine").ok(),
                "mine\ngone"
            );
            fs::write(upper.join("mine"), "mine\n").expect("write");
        }
        assert!(!host::own_mounts().iter().any(|mount| mount.target.starts_with(sb.dir.to_str().expect("text"))));
    });
}

#[test]
fn processes_of_an_exec_are_saved_too_also_after_a_restore() {
    case_with(&[Need::Criu], |sb| {
        let b = counter(sb);
        start_counter(sb, &b);
        for _ in 0..2 {
            // The second time into a container that was restored itself.
            let pid = sb.exec_sh(&b.id, "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!").ok().trim().to_owned();
            checkpoint(sb, &b.id, &[]);
            restore(sb, &b, &["-d"]).ok();
            assert_eq!(sb.exec(&b.id, &["cat", &format!("/proc/{pid}/cmdline")]).ok(), "sleep\x001000\x00");
        }
    });
}

#[test]
fn limits_and_groups_are_those_of_the_bundle_and_not_of_the_images() {
    case_with(&[Need::Criu], |sb| {
        let limit = |b: Bundle, limit: u32| b.set("/linux/resources/pids", json!({ "limit": limit }));
        let b = limit(counter(sb), 50);
        start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        let other = limit(counter(sb), 30);
        restore(sb, &other, &["-d"]).ok();
        let pid = sb.state(&other.id)["pid"].as_i64().expect("a pid");
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read the groups");
        assert!(groups.contains(&format!("/{}", other.id)) && !groups.contains(&format!("/{}\n", b.id)), "{groups}");
        let stats = sb.call(&["events", "--stats", &other.id]).run().json();
        assert_eq!(stats["data"]["pids"]["limit"], 30);
        // Device rules hold: nothing but the default ones can be opened.
        let denied = sb.exec_sh(&other.id, "mknod /dev/shm/kmsg c 1 11; cat /dev/shm/kmsg").fails();
        assert!(denied.contains("not permitted"), "{denied}");
    });
}

#[test]
fn mounts_come_back_and_their_mount_points_are_made() {
    case_with(&[Need::Criu], |sb| {
        let (outer, inner) = (sb.host_dir("outer"), sb.host_dir("inner"));
        fs::write(outer.join("a"), "from the outer").expect("write");
        fs::write(inner.join("b"), "from the inner").expect("write");
        let b = counter(sb).writable().folder("real/conf").link("conf", "/real/conf");
        let b = b.set("/linux/maskedPaths", json!(["/proc/uptime"]));
        let b = b.bind(&outer, "/data", &["rw"]).bind(&inner, "/data/deep/er", &["ro"]).bind(&inner, "/conf", &[]);
        start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        fs::remove_dir_all(outer.join("deep")).expect("remove the mount point");
        restore(sb, &b, &["-d"]).ok();
        let said = sb.exec_sh(&b.id, "cat /data/a /data/deep/er/b /real/conf/b; cat /proc/uptime | wc -c").ok();
        assert_eq!(said.trim(), "from the outerfrom the innerfrom the inner0");
        sb.exec_sh(&b.id, "touch /data/deep/er/c").fails_saying("Read-only");
        sb.exec_sh(&b.id, "echo 1 > /proc/sys/kernel/sysrq").fails();
        // Nothing of the preparations shows on the host.
        let left = host::own_mounts().into_iter().filter(|m| m.target.contains(sb.dir.to_str().expect("UTF-8")));
        assert_eq!(left.count(), 0);
    });
}

#[test]
fn a_pipe_is_the_callers_new_one() {
    case_with(&[Need::Criu], |sb| {
        let script = "exec >/dev/null 2>&1; while read line; do echo $line >> /dev/shm/lines; done; sleep 1000";
        let b = sb.bundle().sh(script);
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let (theirs, ours) = pipe();
        sb.verb("run", &b, &["-d"]).stdin(theirs).run().ok();
        rustix::io::write(&ours, b"first\n").expect("write");
        let lines = || sb.exec(&b.id, &["cat", "/dev/shm/lines"]).stdout_now();
        eventually("the first line is read", || lines() == "first\n");
        checkpoint(sb, &b.id, &[]);
        b.write();
        let (theirs, ours) = pipe();
        criu(sb, "restore", &["-d", "--bundle"]).arg(&b.dir).arg(&b.id).stdin(theirs).run().ok();
        rustix::io::write(&ours, b"second\n").expect("write");
        eventually("the second line is read", || lines() == "first\nsecond\n");
    });
}

#[test]
fn memory_that_was_saved_before_is_not_saved_again() {
    case_with(&[Need::Criu, Need::DirtyTracking], |sb| {
        let b = counter(sb);
        let before = start_counter(sb, &b);
        let early = sb.host_dir("early");
        sb.call(&["checkpoint", "--pre-dump", "--image-path"]).arg(&early).arg(&b.id).deadline(LONG).run().ok();
        assert_eq!(sb.status(&b.id), "running");
        checkpoint(sb, &b.id, &["--parent-path", "../early"]);
        assert!(images(sb).join("parent").exists());
        restore(sb, &b, &["-d"]).ok();
        wait_for_count(sb, &b.id, before + 1);
    });
}

#[test]
fn images_that_are_broken_leave_no_container() {
    case_with(&[Need::Criu], |sb| {
        let b = counter(sb);
        start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        fs::write(images(sb).join("pstree.img"), "no tree").expect("write");
        let said = restore(sb, &b, &["-d"]).fails();
        assert!(said.contains("Error (criu/") && said.contains("restore.log"), "{said}");
        nothing_is_left(sb, &b);
    });
}

#[test]
fn what_cannot_be_saved_runs_on() {
    case_with(&[Need::Criu], |sb| {
        // Its standard streams are files of the host.
        let b = sb.bundle().sh("n=0; while :; do n=$((n+1)); echo $n > /dev/shm/n; sleep 0.1; done");
        let before = start_counter(sb, &b);
        let said = criu(sb, "checkpoint", &[]).arg(&b.id).run().fails();
        assert!(said.contains("Error (criu/") && said.contains("dump.log"), "{said}");
        assert_eq!(sb.status(&b.id), "running");
        wait_for_count(sb, &b.id, before + 1);
    });
}

#[test]
fn memory_may_come_later() {
    case_with(&[Need::Criu, Need::LazyPages], |sb| {
        let b = counter(sb);
        let before = start_counter(sb, &b);
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.expect("a free port").port();
        let status = sb.dir.join("status");
        let script = format!("exec \"$@\" 3>'{}'", status.display());
        let call = sb.program("/bin/sh").args(["-c", &script, "sh"]).arg(&sb.runtime.path).arg("--root").arg(&sb.root);
        let call = call.args(["checkpoint", "--lazy-pages", "--status-fd", "3"]).args(groups_mode(sb));
        let call = call.arg("--page-server").arg(format!("127.0.0.1:{port}")).arg("--image-path").arg(images(sb));
        let mut saving = call.arg("--work-path").arg(sb.host_dir("work")).arg(&b.id).spawn();
        let can_be_fetched = || fs::read(&status).is_ok_and(|bytes| bytes == [0]);
        eventually("the pages can be fetched", || saving.ended() || can_be_fetched());
        assert!(can_be_fetched(), "{}", saving.stderr());
        // What fetches them; CRIU finds its socket in the folder of the logs.
        let address = ["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", &port.to_string()];
        let call = sb.program("/usr/sbin/criu").args(address).arg("--images-dir").arg(images(sb));
        let mut fetching = call.arg("--work-dir").arg(sb.host_dir("work")).args(["--log-file", "lazy.log"]).spawn();
        let socket = sb.host_dir("work").join("lazy-pages.socket");
        eventually("the pages are waited for", || fetching.ended() || socket.exists());
        // The one that was saved is there until its pages are elsewhere.
        let other = counter(sb);
        restore(sb, &other, &["-d", "--lazy-pages"]).ok();
        wait_for_count(sb, &other.id, before + 1);
        fetching.wait(LONG).ok();
        saving.wait(LONG).ok();
        sb.call(&["state", &b.id]).run().fails_saying("does not exist");
        wait_for_count(sb, &other.id, before + 3);
    });
}

/// The runtime whose images are read and that reads ours.
const RUNC: &str = "/usr/sbin/runc";

/// Prepares `checkpoint` or `restore` by the other runtime. Of the modes for groups its 1.1 has not the one for none.
fn runc(sb: &Sandbox, verb: &str) -> Call {
    let call = sb.program(RUNC).arg("--root").arg(sb.host_dir("runc")).args([verb, "--image-path"]).arg(images(sb));
    call.arg("--work-path").arg(sb.host_dir("work")).deadline(LONG)
}

fn runc_says(sb: &Sandbox, args: &[&str]) -> Output {
    sb.program(RUNC).arg("--root").arg(sb.host_dir("runc")).args(args).run()
}

/// A container with what both runtimes prepare for a restore: a bind mount, a file that is hidden, limits.
fn with_surroundings(sb: &Sandbox) -> Bundle {
    let data = sb.host_dir("data");
    fs::write(data.join("a"), "of the host").expect("write");
    let b = counter(sb).bind(&data, "/mnt", &["ro"]).set("/linux/maskedPaths", json!(["/proc/uptime"]));
    b.set("/linux/resources/pids", json!({ "limit": 50 }))
}

const LOOK: &str = "cat /mnt/a; cat /proc/uptime | wc -c";

#[test]
fn images_of_runc_are_restored() {
    case_with(&[Need::Criu, Need::Program(RUNC)], |sb| {
        let b = with_surroundings(sb);
        b.write();
        let call = sb.program(RUNC).arg("--root").arg(sb.host_dir("runc")).args(["run", "-d", "--bundle"]);
        call.arg(&b.dir).arg(&b.id).run().ok();
        let count = |args: &[&str]| runc_says(sb, args).stdout.trim().parse().unwrap_or(0);
        eventually("it counts", || count(&["exec", &b.id, "cat", "/dev/shm/n"]) >= 3);
        let before: u64 = count(&["exec", &b.id, "cat", "/dev/shm/n"]);
        runc(sb, "checkpoint").arg(&b.id).run().ok();
        restore(sb, &b, &["-d"]).ok();
        wait_for_count(sb, &b.id, before + 1);
        assert_eq!(sb.exec_sh(&b.id, LOOK).ok(), "of the host0");
        sb.delete_force(&b.id).ok();
    });
}

#[test]
fn images_are_restored_by_runc() {
    case_with(&[Need::Criu, Need::Program(RUNC)], |sb| {
        let b = with_surroundings(sb);
        let before = start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        runc(sb, "restore").args(["-d", "--bundle"]).arg(&b.dir).arg(&b.id).run().ok();
        let count = || runc_says(sb, &["exec", &b.id, "cat", "/dev/shm/n"]).stdout.trim().parse().unwrap_or(0);
        eventually("it counts on", || count() > before);
        let said = runc_says(sb, &["exec", &b.id, "sh", "-c", LOOK]);
        runc_says(sb, &["delete", "--force", &b.id]).ok();
        assert_eq!(said.ok(), "of the host0");
    });
}
