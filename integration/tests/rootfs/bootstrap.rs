//! Debian's packages, installed by the real programs: what is imported is what they built, entry by entry.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use integration::host::{debian_mirror, own_mounts, within};
use integration::requires::{Need, skip_without};
use rootfs_tools::{Bootstrap, Limits, Source, import};

use crate::place::{Notes, Place, chain};
use crate::tree::{assert_same, list};

const MMDEBSTRAP: Need = Need::Program("/usr/bin/mmdebstrap");
const DEBOOTSTRAP: Need = Need::Program("/usr/sbin/debootstrap");

/// A program of that name that calls the real one and keeps what it built.
fn keeper(place: &Place, name: &str, script: &str) -> PathBuf {
    let program = place.dir.join(name);
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("write");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    program
}

fn build(place: &Place, program: PathBuf, (suite, site): &(String, String)) -> Result<(), String> {
    let bootstrap = Bootstrap {
        shell: "/bin/sh".into(),
        installer: Bootstrap::parse_installer(&program).expect("a known name"),
        program,
        options: vec!["--variant=minbase".into()],
        suite: suite.clone(),
        mirrors: vec![site.clone()],
    };
    let source = Source::Bootstrap(bootstrap);
    import(&place.store(), source, "debian", &Limits::default(), &mut Notes::default())
        .map(drop)
        .map_err(|error| chain(&error))
}

fn imported(place: &Place) -> Vec<String> {
    let store = place.store();
    let layers = store.image("debian").expect("the image").layers;
    assert_eq!(layers.len(), 1);
    list(&store.layer_root(layers[0]))
}

/// It must be a system, and no mount of it may be left.
fn check_debian(place: &Place, lines: &[String]) {
    let has = |start: &str| lines.iter().any(|line| line.starts_with(start));
    assert!(lines.len() > 3000, "{} entries", lines.len());
    for start in ["/usr/bin/dpkg 100755 0:0", "/usr/bin/passwd 104755 0:0", "/etc/debian_version ", "/tmp 41777 0:0"] {
        assert!(has(start), "no {start}");
    }
    assert_eq!(mounts_below(&place.dir), 0);
}

fn mounts_below(dir: &Path) -> usize {
    own_mounts().iter().filter(|mount| Path::new(&mount.target).starts_with(dir)).count()
}

#[test]
fn what_mmdebstrap_builds_is_what_is_imported() {
    if skip_without(&[Need::Root, MMDEBSTRAP, Need::DebianMirror]) {
        return;
    }
    let mirror = debian_mirror().expect("it was there");
    let place = Place::new();
    let kept = place.dir.join("kept.tar");
    let program =
        keeper(&place, "mmdebstrap", &format!("set -e; /usr/bin/mmdebstrap \"$@\" > {0}; cat {0}", kept.display()));
    build(&place, program, &mirror).expect("bootstrap");
    fs::create_dir(place.dir.join("unpacked")).expect("mkdir");
    let words = "--numeric-owner --same-owner --xattrs --xattrs-include=* -C unpacked -xpf kept.tar";
    place.run("tar", &words.split(' ').collect::<Vec<_>>());
    let found = imported(&place);
    assert_same(&found, &list(&place.dir.join("unpacked")), "mmdebstrap");
    check_debian(&place, &found);
}

#[test]
fn what_debootstrap_builds_is_what_is_imported() {
    if skip_without(&[Need::Root, DEBOOTSTRAP, Need::DebianMirror]) {
        return;
    }
    let mirror = debian_mirror().expect("it was there");
    let place = Place::new();
    let kept = place.dir.join("kept");
    // The folder is the argument after options and release.
    let script = format!("set -e; /usr/sbin/debootstrap \"$@\"; cp -a \"$3\" {}", kept.display());
    build(&place, keeper(&place, "debootstrap", &script), &mirror).expect("bootstrap");
    let found = imported(&place);
    assert_same(&found, &list(&kept), "debootstrap");
    check_debian(&place, &found);
    assert_eq!(fs::read_dir(place.dir.join("data/tmp")).expect("read").count(), 0);
}

/// The program has mounts in the tree and children that write there: all of it ends with the command.
#[test]
fn an_installation_that_is_killed_leaves_neither_mounts_nor_files() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let place = Place::new();
    let (shown, mark) = (place.dir.display(), place.dir.join("mark"));
    let script = format!(
        "mkdir -p \"$3/proc\" \"$3/sys\"; mount -t proc proc \"$3/proc\"; mount --bind {shown} \"$3/sys\"
        setsid sh -c 'trap \"\" TERM HUP; while :; do mktemp \"$0/XXXXXX\"; done' \"$3\" > {mark} 2>&1 &
        sleep 1000",
        mark = mark.display()
    );
    let program = keeper(&place, "debootstrap", &script);
    let data = place.dir.join("data");
    for round in 0..3 {
        fs::write(&mark, "").expect("write");
        let mut child = Command::new(env!("CARGO_BIN_EXE_store-work"))
            .args([data.as_path(), Path::new("bootstrap"), &program, Path::new("x")])
            .stdin(Stdio::null())
            .spawn()
            .expect("start");
        let works = || fs::read_to_string(&mark).is_ok_and(|text| text.lines().any(|line| Path::new(line).exists()));
        assert!(within(Duration::from_secs(20), works), "round {round}: nothing was written");
        child.kill().expect("kill");
        child.wait().expect("wait");
        // Until its last process is gone, the folder is somebody's.
        let left = || place.store().data().join("tmp").read_dir().expect("read").count();
        assert!(within(Duration::from_secs(20), || left() == 0), "round {round}: {} left", left());
        assert_eq!(mounts_below(&place.dir), 0, "round {round}");
        assert!(mark.exists(), "what was mounted was removed");
    }
}
