//! Mounts with mapped ids: any mapping, each file system that can, what the container sees and what is on disk.
//!
//! A mapping of a mount says: this id on disk is that id of the host; the container's own user namespace comes after it.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::requires::{Need, skip_without};
use integration::{Bundle, Sandbox, Value, case, case_with, json};
use rustix::mount::{MountFlags, mount, mount_bind};

/// What a user namespace shows for an id that it does not map (/proc/sys/kernel/overflowuid).
const OVERFLOW: &str = "65534:65534";

/// A mapping of these ranges: first id on disk, first id of the host, how many.
fn map(ranges: &[(u32, u32, u32)]) -> Value {
    let range = |&(disk, host, size): &(u32, u32, u32)| json!({ "containerID": disk, "hostID": host, "size": size });
    Value::Array(ranges.iter().map(range).collect())
}

/// Adds a bind mount of `source` at `/data` with these mappings of users and groups.
fn mapped(b: Bundle, source: &Path, options: &[&str], uids: Value, gids: Value) -> Bundle {
    let mut entry = json!({ "source": source, "destination": "/data", "type": "none", "options": options });
    entry["uidMappings"] = uids;
    entry["gidMappings"] = gids;
    b.writable().push("/mounts", entry)
}

/// A folder of `dir` with one file per pair of owner and group, called by it.
fn owned(dir: &Path, owners: &[(u32, u32)]) {
    for (uid, gid) in owners {
        let file = dir.join(format!("{uid}-{gid}"));
        fs::write(&file, "x").expect("write");
        chown(&file, Some(*uid), Some(*gid)).expect("chown");
    }
}

fn owner(path: &Path) -> String {
    let meta = fs::metadata(path).unwrap_or_else(|e| panic!("stat {}: {e}", path.display()));
    format!("{}:{}", meta.uid(), meta.gid())
}

/// A mount of its own whose ids can be mapped.
fn host_mount(sb: &Sandbox, name: &str) -> PathBuf {
    let dir = sb.host_dir(name);
    mount_mappable(&dir);
    dir
}

/// KERNEL(6.3): before, tmpfs cannot; the disk that the tests lie on then has to.
fn mount_mappable(dir: &Path) {
    if Need::IdmappedTmpfs.is_met() {
        mount("skep-test", dir, "tmpfs", MountFlags::empty(), None).expect("mount a tmpfs");
    } else {
        mount_bind(dir, dir).expect("bind a folder onto itself");
    }
}

/// An ext4 of its own; `None` where none can be made.
fn host_ext4(sb: &Sandbox) -> Option<PathBuf> {
    if skip_without(&[Need::Program("/usr/sbin/mkfs.ext4"), Need::Loop]) {
        return None;
    }
    let (image, dir) = (sb.dir.join("ext4.img"), sb.host_dir("ext4"));
    fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("make the image");
    let made = Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&image).status().expect("run mkfs.ext4");
    assert!(made.success());
    let mounted = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&dir).status().expect("run mount");
    assert!(mounted.success());
    Some(dir)
}

/// What is seen and what lands on disk, with several ranges that differ for users and groups.
fn check_ranges(sb: &Sandbox, dir: &Path) {
    owned(dir, &[(100, 210), (101, 220), (102, 230), (103, 210)]);
    // In a folder whose own owner has no mapping nobody may write.
    chown(dir, Some(100), Some(210)).expect("chown");
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("chmod");
    let uids = map(&[(100, 101_000, 1), (101, 102_000, 1), (102, 103_000, 1)]);
    let gids = map(&[(210, 101_100, 10), (220, 102_200, 10), (230, 103_300, 10)]);
    let script = "cd /data; stat -c %u:%g 100-210 101-220 102-230 103-210; touch new";
    let b = mapped(sb.bundle(), dir, &["bind", "idmap"], uids.clone(), gids.clone());
    let user = json!({ "uid": 102_000, "gid": 102_205 });
    assert_eq!(
        sb.run(&b.set("/process/user", user).sh(script)).ok().lines().collect::<Vec<_>>(),
        ["101000:101100", "102000:102200", "103000:103300", "65534:101100"]
    );
    assert_eq!(owner(&dir.join("new")), "101:225");
    fs::remove_file(dir.join("new")).expect("remove");

    // The container's own namespace begins at 100000 of the host.
    let b = mapped(sb.bundle().user_namespace(), dir, &["bind", "idmap"], uids, gids);
    let user = json!({ "uid": 3000, "gid": 1105 });
    assert_eq!(
        sb.run(&b.set("/process/user", user).sh(script)).ok().lines().collect::<Vec<_>>(),
        ["1000:1100", "2000:2200", "3000:3300", "65534:1100"]
    );
    assert_eq!(owner(&dir.join("new")), "102:215");
}

#[test]
fn several_ranges_on_tmpfs() {
    case_with(&[Need::IdmappedTmpfs], |sb| check_ranges(sb, &host_mount(sb, "tmpfs")));
}

#[test]
fn several_ranges_on_ext4() {
    case(|sb| {
        if let Some(dir) = host_ext4(sb) {
            check_ranges(sb, &dir);
        }
    });
}

/// Up to five ranges the kernel keeps in place, more in a sorted table.
#[test]
fn many_ranges() {
    case(|sb| {
        let dir = host_mount(sb, "data");
        owned(&dir, &[(0, 0), (70, 70), (150, 150), (390, 390)]);
        let ranges: Vec<(u32, u32, u32)> = (0..40).rev().map(|n| (n * 10, 200_000 + n * 1000, 5)).collect();
        let b = mapped(sb.bundle(), &dir, &["bind", "idmap"], map(&ranges), map(&ranges));
        let text = sb.run(&b.sh("cd /data; stat -c %u:%g 0-0 70-70 150-150 390-390")).ok();
        assert_eq!(text, "200000:200000\n207000:207000\n215000:215000\n239000:239000");
    });
}

#[test]
fn an_id_without_a_mapping_can_make_no_file() {
    case(|sb| {
        let dir = host_mount(sb, "data");
        owned(&dir, &[(5, 5), (50, 50)]);
        let range = map(&[(0, 100_000, 10)]);
        let b = mapped(sb.bundle().user_namespace(), &dir, &["bind", "idmap"], range.clone(), range.clone());
        let text = sb.run(&b.sh("cd /data; stat -c %u:%g 5-5 50-50; touch a && stat -c %u:%g a")).ok();
        assert_eq!(text, format!("5:5\n{OVERFLOW}\n0:0"));
        assert_eq!(owner(&dir.join("a")), "0:0");
        // Without a user namespace root of the container is root of the host, whom the mount has no id for.
        let out = sb.run(&mapped(sb.bundle(), &dir, &["bind", "idmap"], range.clone(), range).sh("touch /data/b"));
        out.code_is(1);
        assert!(out.stderr.contains("Value too large"), "{out:#?}");
        assert!(!dir.join("b").exists());
    });
}

#[test]
fn one_source_with_several_mappings_and_with_none() {
    case(|sb| {
        let dir = host_mount(sb, "data");
        owned(&dir, &[(7, 8)]);
        let entry = |destination: &str, uid: u32, gid: u32| {
            let (uids, gids) = (map(&[(0, uid, 100)]), map(&[(0, gid, 100)]));
            json!({ "source": dir, "destination": destination, "type": "none", "options": ["bind", "idmap"],
                "uidMappings": uids, "gidMappings": gids })
        };
        let b =
            sb.bundle().writable().push("/mounts", entry("/a", 1000, 2000)).push("/mounts", entry("/b", 3000, 4000));
        let b = b.bind(&dir, "/c", &[]);
        assert_eq!(sb.run(&b.sh("stat -c %u:%g /a/7-8 /b/7-8 /c/7-8")).ok(), "1007:2008\n3007:4008\n7:8");
        assert_eq!(owner(&dir.join("7-8")), "7:8");
    });
}

/// `idmap` changes the mount alone, `ridmap` what is mounted below it too.
#[test]
fn the_recursive_option_reaches_what_is_mounted_below() {
    case(|sb| {
        let dir = host_mount(sb, "tree");
        fs::create_dir(dir.join("sub")).expect("mkdir");
        mount_mappable(&dir.join("sub"));
        owned(&dir, &[(1, 1)]);
        owned(&dir.join("sub"), &[(2, 2)]);
        for (option, expected) in [("idmap", "1001:1001\n2:2"), ("ridmap", "1001:1001\n1002:1002")] {
            let range = map(&[(0, 1000, 10)]);
            let b = mapped(sb.bundle(), &dir, &["rbind", option], range.clone(), range);
            assert_eq!(sb.run(&b.sh("stat -c %u:%g /data/1-1 /data/sub/2-2")).ok(), expected, "{option}");
        }
    });
}

/// The options alone take the container's mapping: what is root's on disk is root's inside.
#[test]
fn the_options_alone_take_the_mapping_of_the_container() {
    case(|sb| {
        let dir = host_mount(sb, "tree");
        fs::create_dir(dir.join("sub")).expect("mkdir");
        mount_mappable(&dir.join("sub"));
        owned(&dir, &[(0, 0)]);
        owned(&dir.join("sub"), &[(9, 9)]);
        for (option, expected) in [("idmap", format!("0:0\n{OVERFLOW}")), ("ridmap", "0:0\n9:9".to_owned())] {
            let b = sb.bundle().user_namespace().writable();
            let b = b.mount(dir.to_str().expect("UTF-8"), "/data", "none", &["rbind", option]);
            assert_eq!(sb.run(&b.sh("stat -c %u:%g /data/0-0 /data/sub/9-9")).ok(), expected, "{option}");
        }
    });
}

/// An overlay whose layers are mounts with mapped ids: what the container writes lands in the upper layer as it is on disk.
#[test]
fn an_overlay_on_mapped_layers() {
    case(|sb| {
        let dir = host_mount(sb, "layers");
        for name in ["lower", "upper", "work"] {
            fs::create_dir(dir.join(name)).expect("mkdir");
        }
        owned(&dir.join("lower"), &[(3, 4)]);
        let b = sb.bundle().user_namespace().writable().folder("/layers").folder("/merged");
        let b = b.capabilities(&["CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
        let rootfs = b.rootfs();
        let b = b.mount(dir.to_str().expect("UTF-8"), "/layers", "none", &["bind", "idmap"]);
        let layer = |key: &str, name: &str| format!("{key}={}/layers/{name}", rootfs.display());
        let (lower, upper, work) = (layer("lowerdir", "lower"), layer("upperdir", "upper"), layer("workdir", "work"));
        let b = b.mount("overlay", "/merged", "overlay", &[&lower, &upper, &work]);
        let script = "cd /merged; stat -c %u:%g 3-4; touch new; chown 5:6 new; echo y >> 3-4; stat -c %u:%g new 3-4";
        assert_eq!(sb.run(&b.sh(script)).ok(), "3:4\n5:6\n3:4");
        let upper = dir.join("upper");
        assert_eq!((owner(&upper.join("new")), owner(&upper.join("3-4"))), ("5:6".to_owned(), "3:4".to_owned()));
    });
}

/// A mount of an overlay itself, or of a file system of the kernel's own, has no mapped ids.
#[test]
fn a_file_system_that_cannot_is_an_error_that_names_the_mount() {
    case(|sb| {
        let dir = host_mount(sb, "layers");
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(dir.join(name)).expect("mkdir");
        }
        let layers = format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", dir.display());
        let layers = std::ffi::CString::new(layers).expect("no NUL");
        mount("overlay", dir.join("merged"), "overlay", MountFlags::empty(), Some(layers.as_c_str())).expect("overlay");
        for source in [dir.join("merged"), PathBuf::from("/sys/kernel")] {
            let range = map(&[(0, 1000, 10)]);
            let b = mapped(sb.bundle(), &source, &["bind", "idmap"], range.clone(), range).sh("true");
            let out = sb.create(&b);
            out.code_is(1);
            out.fails_saying("/mounts/7");
            out.fails_saying("what is mounted there, or below, cannot have mapped ids");
            assert!(out.stderr.contains("mount_setattr") && out.stderr.contains("EINVAL"), "{out:#?}");
            sb.call(&["state", &b.id]).run().fails();
        }
    });
}

/// A mount that has mapped ids already cannot get others.
#[test]
fn mappings_that_make_no_sense_are_refused() {
    case(|sb| {
        let dir = host_mount(sb, "data");
        let good = map(&[(0, 1000, 10)]);
        let overlapping = map(&[(0, 1000, 10), (5, 3000, 10)]);
        let b = mapped(sb.bundle(), &dir, &["bind", "idmap"], overlapping, good.clone());
        sb.create(&b).code_is(1).fails_saying("/mounts/7/uidMappings");
        let b = sb.bundle().bind(&dir, "/data", &["idmap"]);
        sb.create(&b).code_is(1).fails_saying("/mounts/7/options");
        let b = mapped(sb.bundle(), &dir, &["bind", "idmap"], good.clone(), json!([]));
        sb.create(&b).code_is(1).fails_saying("gidMappings");
        let mut entry = json!({ "source": "tmpfs", "destination": "/data", "type": "tmpfs", "options": [] });
        entry["uidMappings"] = good.clone();
        entry["gidMappings"] = good;
        sb.create(&sb.bundle().push("/mounts", entry)).code_is(1).fails_saying("only bind mounts");
    });
}
