//! The order of mounts: what a later mount sees of an earlier one, and how the kernel lists them.

use std::fs;
use std::path::{Path, PathBuf};

use integration::host::{mount_at, parse_mountinfo};
use integration::{Bundle, Sandbox, case, json};

/// A folder of the host with one file that says `content`.
fn folder(sb: &Sandbox, name: &str, content: &str) -> PathBuf {
    let dir = sb.host_dir(name);
    fs::write(dir.join("file"), content).expect("write");
    dir
}

/// Adds a bind mount whose source is this path of the container, written as the host knows it.
fn inside(b: Bundle, source: &str, destination: &str, options: &[&str]) -> Bundle {
    let source = b.rootfs().join(source.trim_start_matches('/'));
    b.bind(&source, destination, options)
}

/// A volume at `/mnt` whose place in the image has another file.
fn covered(sb: &Sandbox) -> Bundle {
    let volume = folder(sb, "volume", "of the volume");
    sb.bundle().folder("/again").file("/mnt/file", "of the image", 0o644).bind(&volume, "/mnt", &[])
}

#[test]
fn a_source_on_an_earlier_mount_shows_that_mount() {
    case(|sb| {
        let b = inside(covered(sb), "/mnt", "/again", &[]).args(&["cat", "/again/file"]);
        assert_eq!(sb.run(&b).ok(), "of the volume");
    });
}

#[test]
fn a_file_on_an_earlier_mount_can_be_bound() {
    case(|sb| {
        let b = inside(covered(sb), "/mnt/file", "/etc/file", &["ro"]).args(&["cat", "/etc/file"]);
        assert_eq!(sb.run(&b).ok(), "of the volume");
    });
}

#[test]
fn a_source_on_an_earlier_mount_in_a_user_namespace() {
    case(|sb| {
        let b = inside(covered(sb).user_namespace(), "/mnt", "/again", &[]).args(&["cat", "/again/file"]);
        assert_eq!(sb.run(&b).ok(), "of the volume");
    });
}

#[test]
fn a_source_that_no_earlier_mount_covers_is_the_image() {
    case(|sb| {
        let volume = folder(sb, "volume", "of the volume");
        let b = sb.bundle().folder("/again").file("/mnt/file", "of the image", 0o644);
        let b = inside(b, "/mnt", "/again", &[]).bind(&volume, "/mnt", &[]);
        assert_eq!(sb.run(&b.args(&["cat", "/again/file", "/mnt/file"])).ok(), "of the imageof the volume");
    });
}

#[test]
fn a_new_file_system_is_a_source_too() {
    case(|sb| {
        let b = sb.bundle().folder("/one").folder("/two").mount("tmpfs", "/one", "tmpfs", &["mode=755"]);
        let b = inside(b, "/one", "/two", &[]).sh("echo x > /one/f && cat /two/f");
        assert_eq!(sb.run(&b).ok(), "x");
    });
}

#[test]
fn rbind_takes_what_was_mounted_below_and_bind_does_not() {
    case(|sb| {
        let volume = folder(sb, "volume", "of the volume");
        let b = sb.bundle().folder("/mnt/sub").folder("/one").folder("/tree").bind(&volume, "/mnt/sub", &[]);
        let b = inside(inside(b, "/mnt", "/one", &[]), "/mnt", "/tree", &["rbind"]);
        assert_eq!(sb.run(&b.sh("ls /one/sub /tree/sub")).ok(), "/one/sub:\n\n/tree/sub:\nfile");
    });
}

#[test]
fn destinations_may_begin_with_the_path_of_the_root() {
    case(|sb| {
        let volume = folder(sb, "volume", "of the volume");
        let b = sb.bundle().folder("/mnt");
        let destination = b.rootfs().join("mnt");
        let b = b.bind(&volume, destination.to_str().expect("UTF-8"), &[]);
        assert_eq!(sb.run(&b.args(&["cat", "/mnt/file"])).ok(), "of the volume");
    });
}

#[test]
fn a_chain_of_mounts_on_mounts() {
    case(|sb| {
        let (a, c) = (folder(sb, "a", "a"), folder(sb, "c", "c"));
        fs::create_dir(a.join("x")).expect("mkdir");
        fs::create_dir(c.join("y")).expect("mkdir");
        let b = sb.bundle().folder("/mnt").folder("/final").bind(&a, "/mnt", &[]).bind(&c, "/mnt/x", &[]);
        let b = inside(b, "/mnt", "/mnt/x/y", &["rbind"]);
        let b = inside(b, "/mnt", "/final", &["rbind"]);
        assert_eq!(sb.run(&b.args(&["cat", "/final/x/y/x/file"])).ok(), "c");
    });
}

/// A link of a volume never leads out of the container, wherever the host would follow it to.
#[test]
fn links_of_an_earlier_mount_stay_inside() {
    case(|sb| {
        let volume = folder(sb, "volume", "of the volume");
        let secret = folder(sb, "secret", "of the host");
        std::os::unix::fs::symlink(&secret, volume.join("out")).expect("symlink");
        std::os::unix::fs::symlink("../../../../../../../../etc", volume.join("up")).expect("symlink");
        let b = sb.bundle().folder("/again").folder("/up").file("/etc/mark", "of the image", 0o644);
        let b = b.bind(&volume, "/mnt", &[]);
        let text = sb.create(&inside(sb.bundle().bind(&volume, "/mnt", &[]), "/mnt/out", "/again", &[])).fails();
        assert!(text.contains("no such file or directory"), "{text}");
        let b = inside(b, "/mnt/up", "/up", &[]);
        assert_eq!(sb.run(&b.args(&["cat", "/up/mark"])).ok(), "of the image");
    });
}

#[test]
fn a_magic_link_on_an_earlier_mount_is_no_source() {
    case(|sb| {
        let b = inside(sb.bundle().folder("/again"), "/proc/self/cwd", "/again", &[]);
        sb.create(&b).fails_saying("/proc/self/cwd");
    });
}

#[test]
fn options_count_for_a_source_inside() {
    case(|sb| {
        let options = ["ro", "nosuid", "nodev", "noexec", "noatime"];
        let seen = sb.mounts_of(inside(covered(sb), "/mnt", "/again", &options));
        for option in options {
            assert!(
                mount_at(&seen, "/again").options.iter().any(|o| o == option),
                "{option}: {:?}",
                mount_at(&seen, "/again")
            );
            assert!(!mount_at(&seen, "/mnt").options.iter().any(|o| o == "ro"), "the first mount keeps its own");
        }
    });
}

#[test]
fn recursive_options_count_for_a_source_inside() {
    case(|sb| {
        let top = sb.bundle().folder("/top").folder("/tree").mount("tmpfs", "/top", "tmpfs", &[]);
        let b = inside(top.mount("tmpfs", "/top/sub", "tmpfs", &[]), "/top", "/tree", &["rbind", "rro", "rnosuid"]);
        let seen = sb.mounts_of(b);
        for target in ["/tree", "/tree/sub"] {
            let options = &mount_at(&seen, target).options;
            assert!(["ro", "nosuid"].iter().all(|o| options.iter().any(|seen| seen == o)), "{target}: {options:?}");
        }
        assert!(mount_at(&seen, "/top/sub").options.iter().any(|o| o == "rw"));
    });
}

#[test]
fn propagation_counts_for_a_source_inside() {
    case(|sb| {
        let b = sb.bundle().folder("/one").folder("/two").folder("/three").mount("tmpfs", "/one", "tmpfs", &["shared"]);
        let b = inside(inside(b, "/one", "/two", &[]), "/one", "/three", &["private"]);
        let seen = sb.mounts_of(b);
        assert_eq!(
            mount_at(&seen, "/one").propagation,
            mount_at(&seen, "/two").propagation,
            "a copy is a peer until told otherwise"
        );
        assert!(
            mount_at(&seen, "/one").propagation.iter().any(|p| p.starts_with("shared:")),
            "{:?}",
            mount_at(&seen, "/one")
        );
        assert!(mount_at(&seen, "/three").propagation.is_empty(), "{:?}", mount_at(&seen, "/three"));
    });
}

#[test]
fn a_link_inside_can_be_copied_as_a_link() {
    case(|sb| {
        let volume = folder(sb, "volume", "of the volume");
        std::os::unix::fs::symlink("/where/ever", volume.join("link")).expect("symlink");
        let b = inside(sb.bundle().bind(&volume, "/mnt", &[]), "/mnt/link", "/tmp/copy", &["copy-symlink"]);
        assert_eq!(sb.run(&b.writable().args(&["readlink", "/tmp/copy"])).ok(), "/where/ever");
    });
}

#[test]
fn a_link_inside_can_be_mounted_itself() {
    case(|sb| {
        let volume = folder(sb, "volume", "of the volume");
        std::os::unix::fs::symlink("/where/ever", volume.join("link")).expect("symlink");
        let b = sb.bundle().link("/place", "/else").bind(&volume, "/mnt", &[]);
        let b = inside(b, "/mnt/link", "/place", &["src-nofollow", "dest-nofollow"]);
        assert_eq!(sb.run(&b.args(&["readlink", "/place"])).ok(), "/where/ever");
    });
}

/// Who owns `/again/file`, a copy of a file of root on an earlier mount, in a container whose user namespace `user` asks
/// for, with this mapping of the mount.
#[track_caller]
fn owner_inside(sb: &Sandbox, user: bool, mapping: Option<u32>) -> String {
    let b = if user { covered(sb).user_namespace() } else { covered(sb) };
    let source = b.rootfs().join("mnt");
    let mut entry = json!({ "source": source, "destination": "/again", "options": ["bind", "idmap"] });
    if let Some(host) = mapping {
        entry["uidMappings"] = json!([{ "containerID": 0, "hostID": host, "size": 65536 }]);
        entry["gidMappings"] = entry["uidMappings"].clone();
    }
    sb.run(&b.push("/mounts", entry).args(&["stat", "-c", "%u:%g", "/again/file"])).ok()
}

#[test]
fn ids_of_a_source_inside_are_mapped() {
    case(|sb| assert_eq!(owner_inside(sb, false, Some(1000)), "1000:1000"));
}

#[test]
fn ids_of_a_source_inside_are_mapped_as_the_containers() {
    case(|sb| assert_eq!(owner_inside(sb, true, None), "0:0"));
}

#[test]
fn ids_of_a_source_inside_are_mapped_in_a_user_namespace() {
    case(|sb| assert_eq!(owner_inside(sb, true, Some(100_007)), "7:7"));
}

#[test]
fn many_sources_inside_are_mapped_one_after_the_other() {
    case(|sb| {
        let mut b = covered(sb).user_namespace();
        for number in 0..20 {
            b = inside(b, "/mnt", &format!("/tmp/m{number}"), &["idmap"]);
        }
        let b = b.sh("stat -c %u:%g /mnt/file /tmp/m*/file | sort | uniq -c | tr -s ' '");
        assert_eq!(sb.run(&b).ok().trim(), "20 0:0\n 1 65534:65534");
    });
}

#[test]
fn a_mapping_that_the_kernel_refuses_is_told_and_leaves_nothing() {
    case(|sb| {
        // A procfs cannot have mapped ids.
        let b = inside(sb.bundle().user_namespace(), "/proc/cpuinfo", "/tmp/info", &["idmap"]);
        let text = sb.create(&b).code_is(1).fails();
        assert!(text.contains("mount_setattr") || text.contains("mapp"), "{text}");
        sb.call(&["state", &b.id]).run().fails();
    });
}

/// A folder of the host with what a container needs to run, and a file that says so.
fn another_root(sb: &Sandbox) -> PathBuf {
    let other = sb.bundle().file("/which", "the other", 0o644).folder("/again");
    other.rootfs()
}

#[test]
fn a_bind_on_the_root_becomes_the_root() {
    case(|sb| {
        let other = another_root(sb);
        let mut b = sb.bundle().file("/which", "the first", 0o644);
        let first = json!({ "source": other, "destination": "/", "options": ["bind"] });
        let rest = b.spec["mounts"].as_array().expect("mounts").clone();
        b.spec["mounts"] = json!([vec![first], rest].concat());
        let b = inside(b, "/which", "/again/which", &[]);
        let text = sb.run(&b.sh("cat /which /again/which; touch /new || cat /proc/self/mountinfo")).ok();
        let (said, mounts) = text.split_once("the otherthe other").unwrap_or_else(|| panic!("{text}"));
        assert_eq!(said, "");
        let seen = parse_mountinfo(mounts);
        assert_eq!(seen.iter().filter(|m| m.target == "/").count(), 1, "{seen:#?}");
        assert!(mount_at(&seen, "/").options.iter().any(|o| o == "ro"), "root.readonly counts for what is the root");
        assert!(seen.iter().any(|m| m.target == "/proc"), "{seen:#?}");
    });
}

#[test]
fn mountinfo_lists_mounts_in_the_order_of_the_definition() {
    case(|sb| {
        let (one, two) = (sb.host_dir("one"), sb.host_dir("two"));
        let b = sb.bundle().mount("tmpfs", "/tmp/a", "tmpfs", &[]).bind(&one, "/tmp/b", &[]);
        let b = b.mount("tmpfs", "/tmp/c", "tmpfs", &[]).bind(&two, "/tmp/d", &["rbind"]);
        let seen = sb.mounts_of(b.writable());
        let order: Vec<&str> = seen.iter().map(|m| m.target.as_str()).filter(|t| t.starts_with("/tmp/")).collect();
        assert_eq!(order, ["/tmp/a", "/tmp/b", "/tmp/c", "/tmp/d"]);
        let defined = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/tmp/a"];
        let place = |target: &str| seen.iter().position(|m| m.target == target).expect("mounted");
        assert!(defined.windows(2).all(|pair| place(pair[0]) < place(pair[1])), "{seen:#?}");
    });
}

#[test]
fn a_copy_of_the_hosts_root_has_no_mounts_of_the_container() {
    case(|sb| {
        let b = sb.bundle().folder("/host").bind(Path::new("/"), "/host", &["rbind", "ro"]);
        let own = format!("/host{}/", b.rootfs().display());
        let seen = sb.mounts_of(b);
        assert!(seen.iter().any(|m| m.target == "/host/proc"), "the host's mounts are there");
        let twice: Vec<_> = seen.iter().filter(|m| m.target.starts_with(&own)).collect();
        assert!(twice.is_empty(), "{twice:#?}");
    });
}
