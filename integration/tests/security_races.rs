//! Hostile neighbours that exchange files while the runtime works: each attack lasts a few seconds.
//!
//! In every case the runtime may refuse as often as it likes; what it lets start must be safe.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration::console::FdSocket;
use integration::host::parse_mountinfo;
use integration::race::{Attacker, attack};
use integration::{Bundle, Output, Sandbox, case, json};

/// Bundles are dear to make; an attack changes the id alone.
fn numbered(b: &Bundle, n: u32) -> Bundle {
    let mut b = b.clone();
    b.id = format!("{}-{n}", b.id);
    b
}

/// A folder of the host that must stay as it is: it has one file.
fn outside(sb: &Sandbox) -> PathBuf {
    let dir = sb.host_dir("outside");
    fs::write(dir.join("kept"), "of the host").expect("write");
    dir
}

#[track_caller]
fn untouched(dir: &Path) {
    let names: Vec<_> = fs::read_dir(dir).expect("list").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["kept"], "something was made outside of the rootfs");
    assert_eq!(fs::read_to_string(dir.join("kept")).expect("read"), "of the host");
}

/// Runs with a deadline and removes what may be left.
fn attempt(sb: &Sandbox, b: &Bundle) -> Output {
    let out = sb.verb("run", b, &[]).deadline(Duration::from_secs(30)).run();
    if out.code != 0 {
        sb.delete_force(&b.id);
    }
    out
}

/// CVE-2021-30465: the target of a mount is exchanged for a link that leads out.
#[test]
fn mount_target_race() {
    case(|sb| {
        let (volume, data, out) = (sb.host_dir("volume"), sb.host_dir("data"), outside(sb));
        fs::write(data.join("marker"), "m").expect("write");
        fs::create_dir(volume.join("target")).expect("mkdir");
        symlink(&out, volume.join("link")).expect("symlink");
        let b = sb
            .bundle()
            .writable()
            .bind(&volume, "/vol", &[])
            .bind(&data, "/vol/target", &[])
            .args(&["cat", "/proc/self/mountinfo"]);
        let attacker = Attacker::swapping(&volume.join("target"), &volume.join("link"));
        let count = attack(|n| {
            let run = attempt(sb, &numbered(&b, n));
            if run.code == 0 {
                let targets: Vec<String> = parse_mountinfo(&run.stdout)
                    .into_iter()
                    .filter(|m| m.root.ends_with("/data"))
                    .map(|m| m.target)
                    .collect();
                // Followed inside of the rootfs the link leads to a folder of the same name there.
                let inside = out.to_str().expect("UTF-8");
                assert!(targets.iter().all(|t| t == "/vol/target" || t == "/vol/link" || t == inside), "{targets:?}");
                assert_eq!(targets.len(), 1, "mounted outside of what the container sees");
            }
            untouched(&out);
        });
        assert!(attacker.rounds() > u64::from(count));
    });
}

/// CVE-2024-45310: a folder above the target is exchanged while the runtime makes folders.
#[test]
fn mkdirall_race() {
    case(|sb| {
        let (volume, data, out) = (sb.host_dir("volume"), sb.host_dir("data"), outside(sb));
        fs::create_dir(volume.join("a")).expect("mkdir");
        symlink(&out, volume.join("link")).expect("symlink");
        let file = sb.dir.join("file");
        fs::write(&file, "x").expect("write");
        let b = sb.bundle().writable().bind(&volume, "/vol", &[]).bind(&data, "/vol/a/b/c/d", &[]).bind(
            &file,
            "/vol/a/e/f/file",
            &[],
        );
        let b = b.args(&["true"]);
        let attacker = Attacker::swapping(&volume.join("a"), &volume.join("link"));
        let made = volume.join("a");
        let count = attack(|n| {
            attempt(sb, &numbered(&b, n));
            untouched(&out);
            // The folders must be made anew each time; during the swap `a` may be the link just now.
            for name in ["b", "e"] {
                remove_below(&made, name);
                remove_below(&volume.join("link"), name);
            }
        });
        assert!(attacker.rounds() > u64::from(count));
    });
}

/// Removes `dir/name` unless `dir` is a link at this moment.
fn remove_below(dir: &Path, name: &str) {
    if fs::symlink_metadata(dir).is_ok_and(|m| m.is_dir())
        && let Err(e) = fs::remove_dir_all(dir.join(name))
    {
        assert!(e.kind() == std::io::ErrorKind::NotFound || e.kind() == std::io::ErrorKind::NotADirectory, "{e}");
    }
}

/// A /dev that lies in a volume which the attacker shares.
fn dev_in_volume(sb: &Sandbox, volume: &Path) -> Bundle {
    let b = sb
        .bundle()
        .writable()
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue");
    b.bind(volume, "/dev", &[])
}

/// CVE-2025-31133: /dev/null is exchanged for a link while masks are made from it.
#[test]
fn mask_race() {
    case(|sb| {
        let volume = sb.host_dir("volume");
        sb.program("/bin/mknod").arg(volume.join("null")).args(["c", "1", "3"]).run().ok();
        symlink("/etc/target", volume.join("link")).expect("symlink");
        let b = dev_in_volume(sb, &volume).file("/etc/target", "writable", 0o666).file("/etc/masked", "secret", 0o666);
        let b =
            b.set("/linux/maskedPaths", json!(["/etc/masked"])).sh("stat -c '%t:%T %F' /etc/masked; cat /etc/masked");
        let attacker = Attacker::swapping(&volume.join("null"), &volume.join("link"));
        let count = attack(|n| {
            let run = attempt(sb, &numbered(&b, n));
            assert!(run.code != 0 || run.stdout == "1:3 character special file\n", "{run:#?}");
        });
        assert!(attacker.rounds() > u64::from(count));
    });
}

/// CVE-2026-88265 and the standard streams: what is opened as /dev/null is the device.
#[test]
fn null_reopen_race() {
    case(|sb| {
        let (volume, out) = (sb.host_dir("volume"), outside(sb));
        sb.program("/bin/mknod").arg(volume.join("null")).args(["c", "1", "3"]).run().ok();
        symlink(out.join("kept"), volume.join("link")).expect("symlink");
        let b = dev_in_volume(sb, &volume).set("/linux/maskedPaths", json!([])).sh("stat -L -c '%F' /proc/self/fd/0");
        let attacker = Attacker::swapping(&volume.join("null"), &volume.join("link"));
        let count = attack(|n| {
            attempt(sb, &numbered(&b, n));
            untouched(&out);
        });
        assert!(attacker.rounds() > u64::from(count));
    });
}

/// CVE-2025-52565: /dev/console and the terminals are exchanged for links to another file.
#[test]
fn console_race() {
    case(|sb| {
        let volume = sb.host_dir("volume");
        fs::write(volume.join("console"), "").expect("write");
        symlink("/etc/target", volume.join("link")).expect("symlink");
        fs::create_dir(volume.join("pts")).expect("mkdir");
        let b = dev_in_volume(sb, &volume).file("/etc/target", "of the image", 0o666).mount(
            "devpts",
            "/dev/pts",
            "devpts",
            &["newinstance", "ptmxmode=0666"],
        );
        let b = b.set("/process/terminal", json!(true));
        // The terminal is on /dev/console, or nothing is: never on a file that the attacker chose.
        let b = b.sh("stat -c %F /etc/target; grep -c ' /etc/target ' /proc/self/mountinfo; echo end");
        let attacker = Attacker::swapping(&volume.join("console"), &volume.join("link"));
        let count = attack(|n| {
            let b = numbered(&b, n);
            let socket = FdSocket::bind(&sb.dir, &format!("t{n}"));
            let run = sb.verb("run", &b, &["-d", "--console-socket", socket.text()]).run();
            if run.code == 0 {
                let text = socket.console().read_until("end");
                assert!(text.contains("regular") && text.contains("\n0\r\n"), "{text}");
            }
            sb.delete_force(&b.id);
        });
        assert!(attacker.rounds() > u64::from(count));
    });
}

/// CVE-2025-52881: a mount is led below /proc, so that a later write to a sysctl or a label goes elsewhere.
#[test]
fn mount_below_proc_race() {
    case(|sb| {
        let volume = sb.host_dir("volume");
        fs::create_dir(volume.join("dir")).expect("mkdir");
        symlink("/proc/sys/net/ipv4", volume.join("link")).expect("symlink");
        let fake = sb.dir.join("fake");
        fs::write(&fake, "fake").expect("write");
        let b = sb.bundle().writable().set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
        let b = b.bind(&volume, "/vol", &[]).bind(&fake, "/vol/dir/ip_forward", &[]);
        let b = b.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" })).args(&["cat", "/proc/self/mountinfo"]);
        let attacker = Attacker::swapping(&volume.join("dir"), &volume.join("link"));
        let count = attack(|n| {
            let run = attempt(sb, &numbered(&b, n));
            if run.code == 0 {
                let below: Vec<_> =
                    parse_mountinfo(&run.stdout).into_iter().filter(|m| m.target.starts_with("/proc/")).collect();
                assert!(below.is_empty(), "{below:#?}");
            }
            assert_eq!(fs::read_to_string(&fake).expect("read"), "fake");
        });
        assert!(attacker.rounds() > u64::from(count));
    });
}

/// The working folder is exchanged for a link while the runtime enters it.
#[test]
fn cwd_race() {
    case(|sb| {
        let (volume, out) = (sb.host_dir("volume"), outside(sb));
        fs::create_dir(volume.join("work")).expect("mkdir");
        symlink("/proc/self/fd/7", volume.join("link")).expect("symlink");
        let b = sb.bundle().bind(&volume, "/vol", &[]).set("/process/cwd", json!("/vol/work"));
        let b = b.sh("ls -a ../../../../../../.. | tr '\\n' ' '");
        let attacker = Attacker::swapping(&volume.join("work"), &volume.join("link"));
        let plain = sb.run(&sb.bundle().bind(&volume, "/vol", &[]).sh("ls -a / | tr '\\n' ' '")).ok();
        let count = attack(|n| {
            let run = attempt(sb, &numbered(&b, n));
            assert!(run.code != 0 || run.stdout.trim() == plain, "the root seen from there is another: {run:#?}");
            untouched(&out);
        });
        assert!(attacker.rounds() > u64::from(count));
    });
}

/// The bundle's rootfs is exchanged for a link to the host's tree while the runtime works in it.
#[test]
fn rootfs_entry_race() {
    case(|sb| {
        let out = outside(sb);
        let b = sb.bundle().writable();
        let rootfs = b.rootfs();
        symlink(&out, rootfs.join("link")).expect("symlink");
        let b = b.args(&["/bin/busybox", "true"]);
        // /sys and /mnt of the rootfs: one is a mount target, the other is made by nobody.
        let attacker = Attacker::swapping(&rootfs.join("sys"), &rootfs.join("link"));
        let count = attack(|n| {
            attempt(sb, &numbered(&b, n));
            untouched(&out);
        });
        assert!(attacker.rounds() > u64::from(count));
    });
}
