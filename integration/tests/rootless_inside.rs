//! A runtime that is itself inside a user namespace, as rootless engines start it: root there, and nobody outside.

use std::fs;

use integration::rootless::{User, user_case};
use integration::{Bundle, Call, Output, Sandbox, json};

/// How the user namespace is made. With a mount namespace it is as podman makes it.
const WITH_RANGES: &[&str] = &["--user", "--map-root-user", "--map-auto", "--mount"];
const OWN_ID_ALONE: &[&str] = &["--user", "--map-root-user", "--mount"];
const WITHOUT_MOUNTS: &[&str] = &["--user", "--map-root-user"];

/// Prepares a script that runs in a new user namespace, with `$R` as the runtime and its `--root`.
fn script(sb: &Sandbox, user: &User, how: &[&str], text: &str) -> Call {
    let call = user.call("/usr/bin/unshare", &sb.dir.join("out")).args(how).args(["/bin/sh", "-c"]);
    let text = format!("R=\"{} --root {}\"\n{text}", user.program.display(), sb.root.display());
    call.arg(text)
}

/// Runs a bundle there.
fn run(sb: &Sandbox, user: &User, how: &[&str], b: &Bundle) -> Output {
    b.write();
    script(sb, user, how, &format!("exec $R run --bundle {} {}", b.dir.display(), b.id)).run()
}

/// As an engine writes it: no user namespace of the container's own.
fn plain(sb: &Sandbox, user: &User) -> Bundle {
    user.bundle(sb).without_namespace("user").unset("/linux/uidMappings").unset("/linux/gidMappings")
}

#[test]
fn a_container_runs_in_the_callers_namespace() {
    user_case(|sb, user| {
        for how in [WITH_RANGES, OWN_ID_ALONE, WITHOUT_MOUNTS] {
            let b =
                plain(sb, user).sh("id -u; cat /proc/self/uid_map; echo x > /dev/null; ls -d /dev/pts/ptmx; exit 3");
            let out = run(sb, user, how, &b);
            out.code_is(3);
            assert!(out.stdout.starts_with("0\n") && out.stdout.contains(&user.uid.to_string()), "{how:?} {out:#?}");
            assert_eq!(out.stdout.contains(&user.first.to_string()), how == WITH_RANGES, "{out:#?}");
        }
    });
}

#[test]
fn a_whole_life_inside() {
    user_case(|sb, user| {
        for how in [WITH_RANGES, OWN_ID_ALONE, WITHOUT_MOUNTS] {
            let b = plain(sb, user).sleeper();
            b.write();
            let (dir, id) = (b.dir.display(), &b.id);
            let text = format!(
                "set -e; $R create --bundle {dir} {id} >/dev/null; $R state {id} | grep -o '\"status\": \"created\"'; $R start {id}
                 $R exec {id} sh -c 'id -u; hostname'; $R list | grep -c running; $R kill {id} KILL
                 until $R state {id} | grep -q stopped; do sleep 0.05; done
                 $R delete {id}; $R list -q"
            );
            assert_eq!(script(sb, user, how, &text).run().ok(), "\"status\": \"created\"\n0\nskep-test\n1", "{how:?}");
        }
    });
}

#[test]
fn a_container_may_have_a_namespace_of_its_own_below() {
    user_case(|sb, user| {
        // Ids of the caller's namespace, of which 1 and following are the subordinate ones outside.
        let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
        let b = user.bundle(sb).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        user.own(&b.dir, user.first + 999);
        std::os::unix::fs::chown(&b.dir, Some(user.uid), Some(user.uid)).expect("chown the bundle");
        let out = run(sb, user, WITH_RANGES, &b.sh("id -u; cat /proc/self/uid_map")).ok();
        assert_eq!(out.split_ascii_whitespace().collect::<Vec<_>>(), ["0", "0", "1000", "10"]);
        // One that the caller's namespace does not have cannot be given on.
        let map = json!([{ "containerID": 0, "hostID": 100_000_000, "size": 10 }]);
        let b = user.bundle(sb).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        run(sb, user, WITH_RANGES, &b).fails_saying("_map");
    });
}

#[test]
fn groups_of_an_image_are_left_out_where_none_can_be_set() {
    user_case(|sb, user| {
        let b = plain(sb, user).set("/process/user/additionalGids", json!([3, 4])).args(&["id", "-G"]);
        let out = run(sb, user, OWN_ID_ALONE, &b).ok();
        assert!(!out.contains('3') && !out.contains('4'), "{out}");
        assert_eq!(run(sb, user, WITH_RANGES, &b).ok(), "0 3 4");
    });
}

#[test]
fn a_network_namespace_of_the_callers_is_joined() {
    user_case(|sb, user| {
        let b =
            plain(sb, user).namespace("network", Some("/proc/self/ns/net")).mount("sysfs", "/sys", "sysfs", &["ro"]);
        let how = [WITH_RANGES, &["--net"]].concat();
        assert_eq!(run(sb, user, &how, &b.args(&["ls", "/sys/class/net"])).ok(), "lo");
    });
}

#[test]
fn a_root_that_is_an_overlay_of_the_users() {
    user_case(|sb, user| {
        let b = plain(sb, user)
            .writable()
            .sh("cat /etc/mark; echo new > /etc/mark; rm /etc/group; mkdir /opt; cat /etc/mark");
        fs::write(b.rootfs().join("etc/mark"), "below\n").expect("write a file");
        user.own(&b.rootfs(), user.uid);
        let root = b.dir.join("merged");
        for name in ["upper", "work", "merged"] {
            fs::create_dir(b.dir.join(name)).expect("create a folder");
        }
        user.own(&b.dir, user.uid);
        let b = b.set("/root/path", json!(root));
        b.write();
        let dir = b.dir.display();
        let text = format!(
            "mount -t overlay -o lowerdir={dir}/rootfs,upperdir={dir}/upper,workdir={dir}/work,userxattr overlay {dir}/merged
             exec $R run --bundle {dir} {}",
            b.id
        );
        assert_eq!(script(sb, user, WITH_RANGES, &text).run().ok(), "below\nnew");
        assert_eq!(fs::read_to_string(b.dir.join("upper/etc/mark")).expect("the upper file"), "new\n");
        assert_eq!(fs::read_to_string(b.rootfs().join("etc/mark")).expect("the lower file"), "below\n");
    });
}

#[test]
fn limits_are_refused_and_device_rules_are_done_without() {
    user_case(|sb, user| {
        let b = plain(sb, user).set("/linux/resources", json!({ "devices": [{ "allow": false, "access": "rwm" }] }));
        run(sb, user, WITH_RANGES, &b.args(&["true"])).ok();
        let b = plain(sb, user).set("/linux/resources", json!({ "memory": { "limit": 50_000_000 } }));
        run(sb, user, WITH_RANGES, &b)
            .fails_saying("cannot set memory limit: container could not join or create cgroup");
        let b = plain(sb, user).set("/linux/cgroupsPath", json!(format!("/{}/x", sb.name)));
        run(sb, user, WITH_RANGES, &b).fails_saying("ermission denied");
    });
}

/// Somebody who knows better can say so, both ways.
#[test]
fn rootless_false_makes_a_closed_cgroup_an_error() {
    user_case(|sb, user| {
        let b = plain(sb, user).args(&["true"]);
        b.write();
        let call = |value: &str| {
            let text = format!("exec $R --rootless {value} run --bundle {} {}", b.dir.display(), b.id);
            script(sb, user, WITH_RANGES, &text).run()
        };
        call("false").fails_saying("ermission denied");
        call("true").ok();
        call("auto").ok();
    });
}

/// What a container does to be root outside: it has every capability inside, and none of it reaches the host.
#[test]
fn all_capabilities_inside_are_none_outside() {
    user_case(|sb, user| {
        let all =
            ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_SYS_MODULE", "CAP_NET_ADMIN", "CAP_SYS_PTRACE"];
        let b = plain(sb, user).capabilities(&all).writable();
        let b = b.sh("mknod /tmp/disk b 8 0; mount -t proc proc /mnt && echo 1 > /mnt/sys/kernel/panic; hostname other && hostname");
        let out = run(sb, user, WITH_RANGES, &b);
        assert_eq!(out.stdout, "other\n");
        assert!(out.stderr.contains("Operation not permitted"), "{out:#?}");
        let name = fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name");
        assert_ne!(name.trim(), "other");
    });
}
