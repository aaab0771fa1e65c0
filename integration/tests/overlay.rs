//! A root file system of layers, mounted for the container alone.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use integration::host::own_mounts;
use integration::requires::Need;
use integration::{Bundle, Sandbox, Value, case_with, json};

/// Folders of a container's layers: the bundle's own root file system below, one layer above it, and the changes.
struct Layers {
    base: PathBuf,
    above: PathBuf,
    changes: PathBuf,
}

impl Layers {
    /// Lower layers that show what hides what, and an empty upper one.
    fn new(sb: &Sandbox, bundle: &Bundle) -> Layers {
        let (above, changes) = (sb.host_dir("above"), sb.host_dir("changes"));
        let base = sb.dir.join("base");
        fs::rename(bundle.rootfs(), &base).expect("move the root file system away");
        fs::create_dir(bundle.rootfs()).expect("make the mount point");
        fs::create_dir_all(base.join("data")).expect("mkdir");
        fs::write(base.join("data/below"), "below").expect("write");
        fs::write(base.join("data/both"), "below").expect("write");
        fs::create_dir_all(above.join("data")).expect("mkdir");
        fs::write(above.join("data/both"), "above").expect("write");
        for name in ["upper", "work"] {
            fs::create_dir(changes.join(name)).expect("mkdir");
        }
        for path in [base.as_path(), &above, &changes, &changes.join("upper"), &sb.dir, &base.join("data")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        Layers { base, above, changes }
    }

    fn folders(&self) -> Value {
        let (upper, work) = (self.changes.join("upper"), self.changes.join("work"));
        json!({ "lower": [self.above, self.base], "upper": upper, "work": work })
    }
}

/// The bundle with these layers as its root.
fn layered(bundle: Bundle, layers: &Value) -> Bundle {
    bundle.writable().set("/annotations", json!({ "io.skep.overlay": layers.to_string() }))
}

fn with(layers: &Layers, changes: &[(&str, Value)]) -> Value {
    let mut all = layers.folders();
    for (key, value) in changes {
        all[key] = value.clone();
    }
    all
}

/// The same without folders for the changes.
fn without_folders(layers: &Layers, changes: &[(&str, Value)]) -> Value {
    let mut all = with(layers, changes);
    for key in ["upper", "work"] {
        all.as_object_mut().expect("an object").remove(key);
    }
    all
}

fn mounts_below(dir: &Path) -> usize {
    own_mounts().iter().filter(|mount| Path::new(&mount.target).starts_with(dir)).count()
}

#[test]
fn the_upper_layer_takes_the_changes_and_nothing_else_sees_the_mount() {
    case_with(&[Need::Skep], |sb| {
        let bundle = sb.bundle();
        let layers = Layers::new(sb, &bundle);
        let bundle = layered(bundle, &layers.folders()).sleeper();
        let container = sb.detached(&bundle);
        assert_eq!(sb.exec_sh(&container.id, "cat /data/below /data/both").ok(), "belowabove");
        sb.exec_sh(&container.id, "echo mine > /data/new; rm /data/below; echo changed > /data/both").ok();
        assert_eq!(sb.exec_sh(&container.id, "cd /data; ls").ok(), "both\nnew");
        assert_eq!(mounts_below(&sb.dir), 0, "the host has a mount of the layers");
        let upper = layers.changes.join("upper");
        assert_eq!(fs::read_to_string(upper.join("data/new")).expect("read"), "mine\n");
        assert_eq!(fs::read_to_string(layers.base.join("data/below")).expect("read"), "below");
        assert_eq!(fs::read_to_string(layers.above.join("data/both")).expect("read"), "above");
        let whiteout = fs::symlink_metadata(upper.join("data/below")).expect("stat");
        assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
        sb.delete_force(&container.id).ok();
        // The next one goes on where this one ended.
        assert_eq!(sb.run(&bundle.sh("cat /data/both /data/new")).ok(), "changed\nmine");
    });
}

#[test]
fn without_an_upper_layer_the_root_is_read_only() {
    case_with(&[Need::Skep], |sb| {
        let bundle = sb.bundle();
        let layers = Layers::new(sb, &bundle);
        let bundle = layered(bundle, &without_folders(&layers, &[]));
        let said = sb.run(&bundle.clone().sh("cat /data/both; touch /data/new 2>&1; :")).ok();
        assert!(said.starts_with("above") && said.contains("Read-only file system"), "{said}");
        let one = layered(bundle, &json!({ "lower": [layers.base] }));
        assert_eq!(sb.run(&one.sh("cat /data/both")).ok(), "below");
    });
}

#[test]
fn changes_in_memory_end_with_the_container() {
    case_with(&[Need::Skep], |sb| {
        let bundle = sb.bundle();
        let layers = Layers::new(sb, &bundle);
        fs::set_permissions(&layers.above, fs::Permissions::from_mode(0o751)).expect("chmod");
        let bundle = layered(bundle, &without_folders(&layers, &[("memory", json!(1 << 20))]));
        let script = "stat -c %a /; cat /data/new 2>&1; echo mine > /data/new; cat /data/new; \
                      dd if=/dev/zero of=/data/big bs=64k count=40 2>&1 | grep -c 'No space'";
        for _ in 0..2 {
            let said = sb.run(&bundle.clone().sh(script)).ok();
            assert_eq!(
                said.lines().collect::<Vec<_>>(),
                ["751", "cat: can't open '/data/new': No such file or directory", "mine", "1"]
            );
        }
        assert!(!layers.above.join("data/new").exists());
    });
}

/// One template for many containers, each with ids of its own, and plain ids on disk.
#[test]
fn layers_follow_the_ids_of_the_container() {
    case_with(&[Need::Skep], |sb| {
        let bundle = sb.bundle();
        let layers = Layers::new(sb, &bundle);
        let may = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"];
        let bundle = bundle.user_namespace().capabilities(&may);
        chown(layers.base.join("data/below"), Some(7), Some(8)).expect("chown");
        for changes in [
            with(&layers, &[("idmap", json!(true))]),
            without_folders(&layers, &[("idmap", json!(true)), ("memory", json!(0))]),
        ] {
            let in_memory = changes.get("memory").is_some();
            let script = "stat -c %u:%g / /data/both /data/below; echo mine > /data/new; stat -c %u:%g /data/new; \
                          echo more >> /data/below; chown 5:6 /data/below; stat -c %u:%g /data/below; \
                          mkdir /data/dir && rmdir /data/dir && echo folders";
            let output = sb.run(&layered(bundle.clone(), &changes).sh(script));
            // KERNEL(6.3): tmpfs before has no mapped ids.
            if in_memory && !Need::IdmappedTmpfs.is_met() {
                output.fails_saying("EINVAL");
                continue;
            }
            let said = output.ok();
            let expected = ["0:0", "0:0", "7:8", "0:0", "5:6", "folders"];
            assert_eq!(said.lines().collect::<Vec<_>>(), expected, "in memory: {in_memory}");
            if !in_memory {
                let owner = |path: &Path| {
                    let stat = fs::symlink_metadata(path).expect("stat");
                    (stat.uid(), stat.gid())
                };
                let upper = layers.changes.join("upper/data");
                assert_eq!(owner(&upper.join("new")), (0, 0));
                assert_eq!(owner(&upper.join("below")), (5, 6));
                assert_eq!(owner(&layers.base.join("data/below")), (7, 8));
                fs::remove_dir_all(upper).expect("remove the changes");
            }
        }
    });
}

#[test]
fn more_layers_than_an_option_holds() {
    case_with(&[Need::Skep], |sb| {
        let bundle = sb.bundle();
        let layers = Layers::new(sb, &bundle);
        let count = if integration::host::kernel() >= (6, 7) { 300 } else { 80 };
        let mut lower = Vec::new();
        for number in 0..count {
            let dir = sb.host_dir(&format!("layer-with-a-long-name-{number:03}"));
            fs::create_dir(dir.join("many")).expect("mkdir");
            fs::set_permissions(dir.join("many"), fs::Permissions::from_mode(0o755)).expect("chmod");
            fs::write(dir.join(format!("many/{number}")), "").expect("write");
            lower.push(json!(dir));
        }
        lower.push(json!(layers.base));
        let bundle = layered(bundle, &with(&layers, &[("lower", Value::Array(lower))]));
        assert_eq!(sb.run(&bundle.sh("ls /many | wc -l")).ok().trim(), count.to_string());
    });
}

#[test]
fn layers_that_are_not_there_are_named_and_nothing_is_left() {
    case_with(&[Need::Skep], |sb| {
        let bundle = sb.bundle();
        let layers = Layers::new(sb, &bundle);
        let missing = layered(bundle.clone(), &with(&layers, &[("lower", json!(["/no/such/layer"]))]));
        let said = sb.run(&missing.sh("true")).fails();
        assert!(said.contains("mount the layers of the root file system"), "{said}");
        assert!(said.contains("/no/such/layer") && said.contains("ENOENT"), "{said}");
        let file = layers.base.join("data/below");
        let no_folder = layered(bundle.clone(), &with(&layers, &[("lower", json!([file]))]));
        let said = sb.run(&no_folder.sh("true")).fails();
        assert!(said.contains("data/below") && said.contains("ENOTDIR"), "{said}");
        assert_eq!(mounts_below(&sb.dir), 0);
    });
}

/// What a layer holds must not lead the kernel out of it.
#[test]
fn a_redirection_in_a_layer_is_not_followed() {
    case_with(&[Need::Skep], |sb| {
        let bundle = sb.bundle();
        let layers = Layers::new(sb, &bundle);
        let crafted = layers.above.join("alias");
        fs::create_dir(&crafted).expect("mkdir");
        fs::set_permissions(&crafted, fs::Permissions::from_mode(0o755)).expect("chmod");
        rustix::fs::setxattr(&crafted, "trusted.overlay.redirect", b"/data", rustix::fs::XattrFlags::empty())
            .expect("setxattr");
        let bundle = layered(bundle, &layers.folders());
        let output = sb.run(&bundle.sh("ls /alias 2>&1"));
        assert!(!output.stdout_now().contains("below"), "{}", output.stdout_now());
    });
}
