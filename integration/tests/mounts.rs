//! Mounts: every class of options, propagation, recursive attributes, copies, mapped ids, and targets that stay inside.

use std::fs;
use std::path::{Path, PathBuf};

use integration::host::{Mount, eventually, mount_at, parse_mountinfo, v2_alone};
use integration::requires::Need;
use integration::{Sandbox, case, case_with, json};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, mount_remount};

fn has(mount: &Mount, option: &str) -> bool {
    mount.options.iter().chain(&mount.super_options).any(|o| o == option)
}

/// A tmpfs of the host inside the sandbox, removed with it.
fn host_tmpfs(sb: &Sandbox, name: &str) -> PathBuf {
    let dir = sb.host_dir(name);
    mount_tmpfs(&dir);
    dir
}

fn mount_tmpfs(dir: &Path) {
    mount("skep-test", dir, "tmpfs", MountFlags::empty(), None).expect("mount a tmpfs");
}

/// A tree of two mounts on the host: `top` and `top/sub`.
fn nested(sb: &Sandbox) -> PathBuf {
    let top = host_tmpfs(sb, "nested");
    fs::create_dir(top.join("sub")).expect("mkdir");
    mount_tmpfs(&top.join("sub"));
    fs::write(top.join("upper"), "u").expect("write");
    fs::write(top.join("sub/lower"), "l").expect("write");
    top
}

#[test]
fn each_option_shows_on_a_tmpfs() {
    case(|sb| {
        let options =
            ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "sync", "dirsync", "nosymfollow"];
        let b = options.iter().fold(sb.bundle(), |b, o| b.mount("tmpfs", &format!("/m-{o}"), "tmpfs", &[o]));
        let seen = sb.mounts_of(b);
        for option in options {
            assert!(
                has(mount_at(&seen, &format!("/m-{option}")), option),
                "{option}: {:?}",
                mount_at(&seen, &format!("/m-{option}"))
            );
        }
    });
}

#[test]
fn the_opposite_of_each_option_takes_it_back() {
    case(|sb| {
        let pairs = [
            ("ro", "rw"),
            ("nosuid", "suid"),
            ("nodev", "dev"),
            ("noexec", "exec"),
            ("noatime", "atime"),
            ("sync", "async"),
            ("nosymfollow", "symfollow"),
        ];
        let pairs = &pairs[..6];
        let b = pairs
            .iter()
            .fold(sb.bundle(), |b, (set, clear)| b.mount("tmpfs", &format!("/m-{set}"), "tmpfs", &[set, clear]));
        let seen = sb.mounts_of(b);
        for (set, _) in pairs {
            assert!(!has(mount_at(&seen, &format!("/m-{set}")), set), "{set}");
        }
    });
}

#[test]
fn strictatime_means_neither_relatime_nor_noatime() {
    case(|sb| {
        let seen = sb.mounts_of(sb.bundle().mount("tmpfs", "/m", "tmpfs", &["strictatime"]));
        assert!(!has(mount_at(&seen, "/m"), "relatime") && !has(mount_at(&seen, "/m"), "noatime"));
    });
}

#[test]
fn data_options_reach_the_file_system() {
    case(|sb| {
        let b = sb.bundle().mount("tmpfs", "/m", "tmpfs", &["size=123k", "mode=751", "uid=5", "gid=6", "nr_inodes=17"]);
        let b = b.sh("stat -c '%a %u %g' /m; cat /proc/self/mountinfo");
        let text = sb.run(&b).ok();
        assert!(text.starts_with("751 5 6\n"), "{text}");
        let seen = parse_mountinfo(text.split_once('\n').expect("lines").1);
        assert!(
            has(mount_at(&seen, "/m"), "size=124k") && has(mount_at(&seen, "/m"), "nr_inodes=17"),
            "{:?}",
            mount_at(&seen, "/m")
        );
    });
}

#[test]
fn an_unknown_data_option_is_an_error() {
    case(|sb| {
        sb.create(&sb.bundle().mount("tmpfs", "/m", "tmpfs", &["nosuchoption=1"])).code_is(1).fails();
    });
}

#[test]
fn an_unknown_file_system_is_an_error() {
    case(|sb| sb.create(&sb.bundle().mount("none", "/m", "nosuchfs", &[])).code_is(1).fails_saying("/m"));
}

#[test]
fn a_bind_shows_the_hosts_files_and_is_writable() {
    case(|sb| {
        let dir = sb.host_dir("data");
        fs::write(dir.join("in"), "from the host").expect("write");
        let b = sb.bundle().bind(&dir, "/data", &[]).sh("cat /data/in; echo back > /data/out");
        assert_eq!(sb.run(&b).ok(), "from the host");
        assert_eq!(fs::read_to_string(dir.join("out")).expect("read"), "back\n");
    });
}

#[test]
fn a_read_only_bind_refuses_writes() {
    case(|sb| {
        let dir = sb.host_dir("data");
        let out = sb.run(&sb.bundle().bind(&dir, "/data", &["ro"]).args(&["touch", "/data/x"]));
        out.code_is(1);
        assert!(out.stderr.contains("Read-only file system"), "{out:#?}");
    });
}

#[test]
fn options_of_a_bind_are_applied() {
    case(|sb| {
        let dir = sb.host_dir("data");
        let b = sb.bundle().bind(&dir, "/data", &["nosuid", "nodev", "noexec", "noatime"]);
        let seen = sb.mounts_of(b);
        for option in ["nosuid", "nodev", "noexec", "noatime"] {
            assert!(has(mount_at(&seen, "/data"), option), "{option}");
        }
    });
}

#[test]
fn the_source_of_a_bind_keeps_its_own_options() {
    case(|sb| {
        let dir = host_tmpfs(sb, "data");
        let before = own_options(&dir);
        sb.mounts_of(sb.bundle().bind(&dir, "/data", &["ro", "noexec"]));
        assert_eq!(own_options(&dir), before);
    });
}

fn own_options(dir: &Path) -> Vec<String> {
    mount_at(&integration::host::own_mounts(), dir.to_str().expect("UTF-8")).options.clone()
}

#[test]
fn a_file_can_be_bound_onto_a_file_that_is_made() {
    case(|sb| {
        let file = sb.dir.join("file");
        fs::write(&file, "content").expect("write");
        let b = sb.bundle().bind(&file, "/etc/deep/er/file", &["ro"]).args(&["cat", "/etc/deep/er/file"]);
        assert_eq!(sb.run(&b).ok(), "content");
    });
}

#[test]
fn a_missing_source_of_a_bind_is_named() {
    case(|sb| {
        let b = sb.bundle().bind(Path::new("/no/such/source"), "/data", &[]);
        let text = sb.create(&b).code_is(1).fails();
        assert!(text.contains("/no/such/source") && text.contains("no such file or directory"), "{text}");
        sb.call(&["state", &b.id]).run().fails();
    });
}

#[test]
fn a_relative_source_of_a_bind_starts_at_the_bundle() {
    case(|sb| {
        let b = sb.bundle();
        fs::create_dir(b.dir.join("beside")).expect("mkdir");
        fs::write(b.dir.join("beside/f"), "beside").expect("write");
        let b = b.mount("beside", "/data", "none", &["bind"]).args(&["cat", "/data/f"]);
        assert_eq!(sb.run(&b).ok(), "beside");
    });
}

#[test]
fn bind_takes_one_mount_and_rbind_the_tree() {
    case(|sb| {
        let top = nested(sb);
        let b = sb.bundle().bind(&top, "/one", &[]).mount(top.to_str().expect("UTF-8"), "/tree", "none", &["rbind"]);
        let b = b.sh("ls /one /one/sub; echo --; ls /tree /tree/sub");
        let text = sb.run(&b).ok();
        let (one, tree) = text.split_once("--").expect("two parts");
        assert!(one.contains("upper") && !one.contains("lower"), "{text}");
        assert!(tree.contains("upper") && tree.contains("lower"), "{text}");
    });
}

#[test]
fn ro_of_an_rbind_is_the_top_alone_and_rro_the_tree() {
    case(|sb| {
        let top = nested(sb);
        let source = top.to_str().expect("UTF-8").to_owned();
        let b = sb.bundle().mount(&source, "/top", "none", &["rbind", "ro"]).mount(
            &source,
            "/all",
            "none",
            &["rbind", "rro"],
        );
        let seen = sb.mounts_of(b);
        assert!(has(mount_at(&seen, "/top"), "ro") && !mount_at(&seen, "/top/sub").options.contains(&"ro".to_owned()));
        assert!(has(mount_at(&seen, "/all"), "ro") && mount_at(&seen, "/all/sub").options.contains(&"ro".to_owned()));
    });
}

#[test]
fn recursive_attributes_reach_the_whole_tree() {
    case(|sb| {
        let top = nested(sb);
        let source = top.to_str().expect("UTF-8").to_owned();
        let options = [
            ("rnosuid", "nosuid"),
            ("rnodev", "nodev"),
            ("rnoexec", "noexec"),
            ("rnoatime", "noatime"),
            ("rnodiratime", "nodiratime"),
            ("rnosymfollow", "nosymfollow"),
        ];
        let b = options.iter().fold(sb.bundle(), |b, (o, _)| b.mount(&source, &format!("/{o}"), "none", &["rbind", o]));
        let seen = sb.mounts_of(b);
        for (recursive, plain) in options {
            for target in [format!("/{recursive}"), format!("/{recursive}/sub")] {
                assert!(has(mount_at(&seen, &target), plain), "{target}: {:?}", mount_at(&seen, &target));
            }
        }
    });
}

#[test]
fn rrw_takes_read_only_away_from_the_tree() {
    case(|sb| {
        let top = nested(sb);
        for dir in [top.clone(), top.join("sub")] {
            mount_remount(&dir, MountFlags::BIND | MountFlags::RDONLY, "").expect("remount read-only");
        }
        let seen = sb.mounts_of(sb.bundle().mount(top.to_str().expect("UTF-8"), "/t", "none", &["rbind", "rrw"]));
        assert!(!mount_at(&seen, "/t").options.contains(&"ro".to_owned()));
        assert!(!mount_at(&seen, "/t/sub").options.contains(&"ro".to_owned()));
    });
}

#[test]
fn propagation_of_a_mount_is_as_written() {
    case(|sb| {
        let kinds = ["private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable"];
        let dir = host_tmpfs(sb, "data");
        mount_change(&dir, MountPropagationFlags::SHARED).expect("make it shared");
        let b = kinds.iter().fold(sb.bundle(), |b, kind| b.bind(&dir, &format!("/{kind}"), &[kind]));
        let seen = sb.mounts_of(b);
        for kind in kinds {
            let fields = mount_at(&seen, &format!("/{kind}")).propagation.join(" ");
            let expected = match kind.trim_start_matches('r') {
                "private" => fields.is_empty(),
                "shared" => fields.contains("shared:"),
                "slave" => fields.contains("master:") && !fields.contains("shared:"),
                _ => fields == "unbindable",
            };
            assert!(expected, "{kind}: {fields:?}");
        }
    });
}

#[test]
fn a_slave_mount_sees_what_the_host_mounts_later() {
    case(|sb| {
        let dir = host_tmpfs(sb, "data");
        mount_change(&dir, MountPropagationFlags::SHARED).expect("make it shared");
        fs::create_dir(dir.join("late")).expect("mkdir");
        let b = sb.bundle().mount(dir.to_str().expect("UTF-8"), "/data", "none", &["rbind", "rslave"]).sleeper();
        let c = sb.detached(&b);
        mount_tmpfs(&dir.join("late"));
        fs::write(dir.join("late/f"), "seen").expect("write");
        assert_eq!(sb.exec(&c.id, &["cat", "/data/late/f"]).ok(), "seen");
    });
}

#[test]
fn a_private_mount_does_not_see_what_the_host_mounts_later() {
    case(|sb| {
        let dir = host_tmpfs(sb, "data");
        mount_change(&dir, MountPropagationFlags::SHARED).expect("make it shared");
        fs::create_dir(dir.join("late")).expect("mkdir");
        let b = sb.bundle().mount(dir.to_str().expect("UTF-8"), "/data", "none", &["rbind", "rprivate"]).sleeper();
        let c = sb.detached(&b);
        mount_tmpfs(&dir.join("late"));
        fs::write(dir.join("late/f"), "x").expect("write");
        sb.exec(&c.id, &["cat", "/data/late/f"]).code_is(1);
    });
}

#[test]
fn a_shared_mount_lets_the_host_see_what_the_container_mounts() {
    case(|sb| {
        let dir = host_tmpfs(sb, "data");
        mount_change(&dir, MountPropagationFlags::SHARED).expect("make it shared");
        fs::create_dir(dir.join("made")).expect("mkdir");
        let b = sb.bundle().mount(dir.to_str().expect("UTF-8"), "/data", "none", &["rbind", "rshared"]);
        let b = b.set("/linux/rootfsPropagation", json!("shared")).capabilities(&["CAP_SYS_ADMIN"]);
        let c = sb.detached(&b.sh("mount -t tmpfs none /data/made && echo hi > /data/made/f; sleep 1000"));
        eventually("the host sees it", || fs::read_to_string(dir.join("made/f")).is_ok_and(|t| t == "hi\n"));
        sb.delete_force(&c.id).ok();
    });
}

#[test]
fn the_propagation_of_the_rootfs_is_as_written() {
    case(|sb| {
        for (value, expected) in [("private", ""), ("shared", "shared:"), ("unbindable", "unbindable")] {
            let b = sb.bundle().set("/linux/rootfsPropagation", json!(value));
            let dir = b.rootfs();
            mount(&dir, &dir, "", MountFlags::BIND, None).expect("bind the rootfs onto itself");
            mount_change(&dir, MountPropagationFlags::SHARED).expect("make it shared");
            let seen = sb.mounts_of(b);
            let fields = mount_at(&seen, "/").propagation.join(" ");
            assert!(fields.contains(expected) && fields.is_empty() == expected.is_empty(), "{value}: {fields:?}");
        }
    });
}

#[test]
fn a_rootfs_that_is_no_mount_becomes_a_shared_root() {
    case(|sb| {
        for value in ["shared", "rshared"] {
            let seen = sb.mounts_of(sb.bundle().set("/linux/rootfsPropagation", json!(value)));
            let fields = mount_at(&seen, "/").propagation.join(" ");
            assert!(fields.contains("shared:"), "{value}: {fields:?}");
        }
    });
}

#[test]
fn a_path_that_is_named_twice_is_covered_once() {
    case(|sb| {
        let b = sb.bundle().set("/linux/maskedPaths", json!(["/home", "/etc/passwd", "/home", "/etc/passwd"]));
        let b = b.set("/linux/readonlyPaths", json!(["/var", "/var"]));
        let seen = sb.mounts_of(b);
        for path in ["/home", "/etc/passwd", "/var"] {
            assert_eq!(seen.iter().filter(|mount| mount.target == path).count(), 1, "{path}: {seen:?}");
        }
    });
}

#[test]
fn a_slave_rootfs_receives_what_the_host_mounts_in_it() {
    case(|sb| {
        let b = sb.bundle().set("/linux/rootfsPropagation", json!("slave")).sleeper();
        let dir = b.rootfs();
        mount(&dir, &dir, "", MountFlags::BIND, None).expect("bind the rootfs onto itself");
        mount_change(&dir, MountPropagationFlags::SHARED).expect("make it shared");
        let c = sb.detached(&b);
        mount_tmpfs(&dir.join("mnt"));
        fs::write(dir.join("mnt/f"), "seen").expect("write");
        assert_eq!(sb.exec(&c.id, &["cat", "/mnt/f"]).ok(), "seen");
    });
}

#[test]
fn an_unknown_propagation_of_the_rootfs_is_an_error() {
    case(|sb| {
        let b = sb.bundle().set("/linux/rootfsPropagation", json!("nosuch"));
        sb.create(&b).code_is(1).fails_saying("nosuch");
    });
}

#[test]
fn mounts_of_the_container_do_not_reach_the_host() {
    case(|sb| {
        let before = integration::host::own_mounts().len();
        let c = sb.detached(&sb.bundle().sleeper());
        let now = integration::host::own_mounts();
        let mine = now.iter().filter(|m| m.target.starts_with(sb.dir.to_str().expect("UTF-8"))).count();
        assert_eq!(mine, 0, "{before} mounts before");
        sb.delete_force(&c.id).ok();
    });
}

#[test]
fn tmpcopyup_copies_what_was_there() {
    case(|sb| {
        let b = sb.bundle().file("/data/f", "kept", 0o640).file("/data/sub/g", "too", 0o600).link("/data/l", "f");
        let b = b.mount("tmpfs", "/data", "tmpfs", &["tmpcopyup"]);
        let b = b.sh("cat /data/f /data/sub/g; echo; readlink /data/l; stat -c %a /data/f; echo new > /data/f; grep ' /data ' /proc/self/mountinfo");
        let text = sb.run(&b).ok();
        assert!(text.starts_with("kepttoo\nf\n640\n") && text.contains("tmpfs"), "{text}");
        assert_eq!(fs::read_to_string(b.rootfs().join("data/f")).expect("read"), "kept");
    });
}

#[test]
fn mapped_ids_of_a_bind_are_translated() {
    case_with(&[Need::IdmappedTmpfs], |sb| {
        let dir = host_tmpfs(sb, "data");
        fs::write(dir.join("f"), "x").expect("write");
        std::os::unix::fs::chown(dir.join("f"), Some(7), Some(8)).expect("chown");
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        let entry = json!({ "source": dir, "destination": "/data", "type": "none", "options": ["bind"], "uidMappings": map, "gidMappings": map });
        let b = sb.bundle().user_namespace().push("/mounts", entry).args(&["stat", "-c", "%u:%g", "/data/f"]);
        assert_eq!(sb.run(&b).ok(), "7:8");
    });
}

#[test]
fn the_idmap_option_takes_the_mapping_of_the_container() {
    case_with(&[Need::IdmappedTmpfs], |sb| {
        let dir = host_tmpfs(sb, "data");
        fs::write(dir.join("f"), "x").expect("write");
        let b = sb.bundle().user_namespace().bind(&dir, "/data", &["idmap"]);
        let text = sb.run(&b.sh("stat -c %u:%g /data/f; touch /data/new")).ok();
        assert_eq!(text, "0:0");
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(dir.join("new")).expect("stat").uid(), 0, "the file on the host belongs to root");
    });
}

#[test]
fn mapped_ids_without_a_user_namespace_of_the_container() {
    case_with(&[Need::IdmappedTmpfs], |sb| {
        let dir = host_tmpfs(sb, "data");
        fs::write(dir.join("f"), "x").expect("write");
        std::os::unix::fs::chown(dir.join("f"), Some(5), Some(5)).expect("chown");
        let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
        let entry = json!({ "source": dir, "destination": "/data", "type": "none", "options": ["bind"], "uidMappings": map, "gidMappings": map });
        let b = sb.bundle().push("/mounts", entry).args(&["stat", "-c", "%u:%g", "/data/f"]);
        assert_eq!(sb.run(&b).ok(), "1005:1005");
    });
}

#[test]
fn a_relative_destination_is_taken_from_the_root() {
    case(|sb| {
        let dir = sb.host_dir("data");
        fs::write(dir.join("f"), "rel").expect("write");
        assert_eq!(sb.run(&sb.bundle().bind(&dir, "some/where", &[]).args(&["cat", "/some/where/f"])).ok(), "rel");
    });
}

#[test]
fn a_destination_with_dots_stays_inside() {
    case(|sb| {
        let dir = sb.host_dir("data");
        fs::write(dir.join("f"), "dots").expect("write");
        let b = sb.bundle().bind(&dir, "/../../../where", &[]).args(&["cat", "/where/f"]);
        assert_eq!(sb.run(&b).ok(), "dots");
        assert!(!sb.dir.join("where").exists() && !Path::new("/where").exists());
    });
}

#[test]
fn an_absolute_link_in_the_rootfs_stays_inside() {
    case(|sb| {
        let dir = sb.host_dir("data");
        fs::write(dir.join("f"), "linked").expect("write");
        let outside = sb.host_dir("outside");
        let b = sb.bundle().link("/link", outside.to_str().expect("UTF-8")).bind(&dir, "/link/sub", &[]);
        assert_eq!(sb.run(&b.args(&["cat", "/link/sub/f"])).ok(), "linked");
        assert_eq!(fs::read_dir(&outside).expect("list").count(), 0, "made outside of the rootfs");
    });
}

#[test]
fn a_relative_link_that_climbs_stays_inside() {
    case(|sb| {
        let dir = sb.host_dir("data");
        fs::write(dir.join("f"), "climbed").expect("write");
        let outside = sb.host_dir("outside");
        let b = sb.bundle().link("/link", "../../outside").bind(&dir, "/link/sub", &[]);
        assert_eq!(sb.run(&b.args(&["cat", "/outside/sub/f"])).ok(), "climbed");
        assert_eq!(fs::read_dir(&outside).expect("list").count(), 0);
    });
}

#[test]
fn a_link_as_the_last_part_of_a_destination_is_followed_inside() {
    case(|sb| {
        let dir = sb.host_dir("data");
        fs::write(dir.join("f"), "run").expect("write");
        let b = sb.bundle().folder("/run/real").link("/var/run", "/run/real").bind(&dir, "/var/run", &[]);
        assert_eq!(sb.run(&b.args(&["cat", "/run/real/f"])).ok(), "run");
    });
}

#[test]
fn the_link_of_a_source_is_followed_on_the_host() {
    case(|sb| {
        let dir = sb.host_dir("data");
        fs::write(dir.join("f"), "src").expect("write");
        std::os::unix::fs::symlink(&dir, sb.dir.join("alias")).expect("symlink");
        assert_eq!(
            sb.run(&sb.bundle().bind(&sb.dir.join("alias"), "/data", &[]).args(&["cat", "/data/f"])).ok(),
            "src"
        );
    });
}

#[test]
fn dest_nofollow_mounts_on_the_link_itself() {
    case(|sb| {
        let file = sb.dir.join("file");
        fs::write(&file, "bound").expect("write");
        let b = sb.bundle().file("/target", "untouched", 0o644).link("/link", "/target");
        let b = b.bind(&file, "/link", &["dest-nofollow"]).sh("cat /target; echo; cat /link");
        assert_eq!(sb.run(&b).ok(), "untouched\nbound");
    });
}

#[test]
fn src_nofollow_binds_the_link_itself() {
    case(|sb| {
        std::os::unix::fs::symlink("/somewhere/else", sb.dir.join("alias")).expect("symlink");
        let b = sb.bundle().bind(&sb.dir.join("alias"), "/l", &["src-nofollow"]).args(&["readlink", "/l"]);
        assert_eq!(sb.run(&b).ok(), "/somewhere/else");
    });
}

#[test]
fn copy_symlink_makes_the_same_link() {
    case(|sb| {
        std::os::unix::fs::symlink("/somewhere/else", sb.dir.join("alias")).expect("symlink");
        let b = sb
            .bundle()
            .writable()
            .bind(&sb.dir.join("alias"), "/l", &["copy-symlink"])
            .sh("readlink /l; grep -c ' /l ' /proc/self/mountinfo");
        let out = sb.run(&b);
        assert_eq!(out.stdout, "/somewhere/else\n0\n", "{out:#?}");
    });
}

/// Options of a file system have nobody to take them; runc and crun leave them out as well.
#[test]
fn data_options_of_a_bind_mount_are_left_out() {
    case(|sb| {
        let dir = sb.host_dir("source");
        let b = sb.bundle().bind(&dir, "/m", &["mode=755", "size=1k", "nosuid"]).sh("grep ' /m ' /proc/self/mountinfo");
        let out = sb.run(&b).ok();
        assert!(out.contains("nosuid") && !out.contains("size="), "{out}");
    });
}

#[test]
fn mounts_are_made_in_the_order_of_the_config() {
    case(|sb| {
        let (one, two) = (sb.host_dir("one"), sb.host_dir("two"));
        fs::write(one.join("f"), "1").expect("write");
        fs::write(two.join("f"), "2").expect("write");
        fs::create_dir(one.join("sub")).expect("mkdir");
        let b = sb.bundle().bind(&one, "/d", &[]).bind(&two, "/d/sub", &[]).sh("cat /d/f /d/sub/f");
        assert_eq!(sb.run(&b).ok(), "12");
        let b = sb.bundle().bind(&one, "/d", &[]).bind(&two, "/d", &[]).sh("cat /d/f");
        assert_eq!(sb.run(&b).ok(), "2");
    });
}

#[test]
fn a_read_only_rootfs_refuses_writes_and_its_mounts_do_not() {
    case(|sb| {
        let b = sb.bundle().mount("tmpfs", "/rw", "tmpfs", &[]).sh("touch /x 2>&1; touch /rw/x && echo fine");
        let text = sb.run(&b).ok();
        assert!(text.contains("Read-only file system") && text.ends_with("fine"), "{text}");
    });
}

#[test]
fn a_writable_rootfs_is_written_to() {
    case(|sb| {
        let b = sb.bundle().writable().sh("echo hi > /x");
        sb.run(&b).ok();
        assert_eq!(fs::read_to_string(b.rootfs().join("x")).expect("read"), "hi\n");
    });
}

#[test]
fn the_default_mounts_have_their_types_and_options() {
    case(|sb| {
        let seen = sb.mounts_of(sb.bundle());
        for (target, fstype) in [
            ("/proc", "proc"),
            ("/dev", "tmpfs"),
            ("/dev/pts", "devpts"),
            ("/dev/shm", "tmpfs"),
            ("/dev/mqueue", "mqueue"),
            ("/sys", "sysfs"),
        ] {
            assert_eq!(mount_at(&seen, target).fstype, fstype, "{target}");
        }
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(has(mount_at(&seen, "/sys"), option), "{option}");
        }
        assert!(has(mount_at(&seen, "/dev/pts"), "ptmxmode=666") && has(mount_at(&seen, "/dev/pts"), "gid=5"));
    });
}

#[test]
fn the_root_is_a_mount_and_the_old_one_is_gone() {
    case(|sb| {
        let seen = sb.mounts_of(sb.bundle());
        assert_eq!(seen.iter().filter(|m| m.target == "/").count(), 1, "{seen:#?}");
        assert!(!seen.iter().any(|m| m.target.contains(sb.dir.to_str().expect("UTF-8"))), "{seen:#?}");
    });
}

#[test]
fn a_cgroup_mount_shows_every_v1_controller_read_only() {
    case_with(&[Need::V1("memory")], |sb| {
        let seen = sb.mounts_of(sb.bundle());
        for controller in ["memory", "pids", "cpu", "devices", "freezer", "cpuset", "blkio"] {
            let mount = seen.iter().find(|m| m.fstype == "cgroup" && m.super_options.iter().any(|o| o == controller));
            let mount = mount.unwrap_or_else(|| panic!("{controller} is not mounted: {seen:#?}"));
            assert!(mount.target.starts_with("/sys/fs/cgroup/"), "{mount:?}");
            assert!(mount.options.contains(&"ro".to_owned()), "{mount:?}");
        }
    });
}

#[test]
fn a_cgroup_mount_shows_the_containers_own_groups() {
    case(|sb| {
        let file = if v2_alone().is_some() { "/sys/fs/cgroup/pids.max" } else { "/sys/fs/cgroup/pids/pids.max" };
        for b in [sb.bundle(), sb.bundle().without_namespace("cgroup")] {
            let b = b.set("/linux/resources/pids", json!({ "limit": 77 })).args(&["cat", file]);
            assert_eq!(sb.run(&b).ok(), "77");
        }
    });
}

#[test]
fn an_overlay_can_be_mounted() {
    case(|sb| {
        let b = sb.bundle();
        // Upper and work must lie on one file system that is no overlay.
        let base = host_tmpfs(sb, "layers");
        for dir in ["lower", "upper", "work"] {
            fs::create_dir(base.join(dir)).expect("mkdir");
        }
        fs::write(base.join("lower/f"), "low").expect("write");
        let base = base.to_str().expect("UTF-8");
        let options =
            [format!("lowerdir={base}/lower"), format!("upperdir={base}/upper"), format!("workdir={base}/work")];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let b = b.mount("overlay", "/o", "overlay", &options).sh("cat /o/f; echo up > /o/g");
        assert_eq!(sb.run(&b).ok(), "low");
        assert_eq!(fs::read_to_string(format!("{base}/upper/g")).expect("read"), "up\n");
    });
}

#[test]
fn no_pivot_runs_too() {
    case(|sb| {
        let b = sb.bundle().sh("ls /bin/busybox && cat /proc/self/mountinfo");
        let text = sb.verb("run", &b, &["--no-pivot"]).run().ok();
        assert!(text.starts_with("/bin/busybox"), "{text}");
    });
}

#[test]
fn a_rootfs_that_is_a_mount_point_works_and_stays_mounted() {
    case(|sb| {
        let b = sb.bundle().sh("echo fine");
        let dir = b.rootfs();
        mount(&dir, &dir, "", MountFlags::BIND, None).expect("bind the rootfs onto itself");
        assert_eq!(sb.run(&b).ok(), "fine");
        assert!(integration::host::own_mounts().iter().any(|m| Path::new(&m.target) == dir));
    });
}

#[test]
fn many_mounts_are_made() {
    case(|sb| {
        let dir = sb.host_dir("data");
        let b = (0..150).fold(sb.bundle(), |b, n| b.bind(&dir, &format!("/many/{n}"), &["ro"]));
        let seen = sb.mounts_of(b);
        assert_eq!(seen.iter().filter(|m| m.target.starts_with("/many/")).count(), 150);
    });
}

#[test]
fn a_tmpfs_over_a_folder_takes_its_mode() {
    case(|sb| {
        let b = sb.bundle().folder("/data");
        fs::set_permissions(b.rootfs().join("data"), std::os::unix::fs::PermissionsExt::from_mode(0o2751))
            .expect("chmod");
        let b = b.mount("tmpfs", "/data", "tmpfs", &[]).args(&["stat", "-c", "%a", "/data"]);
        assert_eq!(sb.run(&b).ok(), "2751");
    });
}

#[test]
fn a_bind_into_a_user_namespace_keeps_locked_flags() {
    case(|sb| {
        let dir = sb.host_dir("data");
        mount("skep-test", &dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
            .expect("mount");
        let seen = sb.mounts_of(sb.bundle().user_namespace().bind(&dir, "/data", &["ro"]));
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(has(mount_at(&seen, "/data"), option), "{option}");
        }
    });
}
