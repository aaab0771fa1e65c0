//! Defined containers of an ordinary user.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown};

use integration::Sandbox;
use integration::defined::{Defined, text};
use integration::host::eventually;
use integration::requires::Need;
use integration::rootless::{User, user_case_with};

/// The programs that `skep` hands over to, where the user reaches them.
fn install(user: &User, sb: &Sandbox) {
    for name in ["skep-manager", "skep-monitor"] {
        let copy = user.program.with_file_name(name);
        let near = sb.runtime.path.with_file_name(name);
        let prefix = sb.runtime.path.parent().and_then(|bin| bin.parent()).expect("a prefix");
        let program = if near.exists() { near } else { prefix.join("libexec/skep").join(name) };
        fs::copy(program, &copy).expect("copy a program");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
}

#[test]
fn a_user_defines_starts_and_destroys_a_container() {
    user_case_with(&[Need::Skep], |sb, user| {
        install(user, sb);
        let d = Defined::new(sb);
        fs::create_dir(&d.data).expect("make the data folder");
        lchown(&d.data, Some(user.uid), Some(user.uid)).expect("chown");
        let (app, base) = (d.name("app"), d.base());
        // What the user may not read cannot be copied.
        let owner = user.uid.to_string();
        sb.program("/usr/bin/chown").args(["-R", &owner, text(&base)]).run().ok();
        let script = "cat /proc/self/uid_map; chown 33:33 /etc/group; echo mine > /new; exec sleep 1000";
        let create = |name: &str, options: &[&str]| {
            let front = ["create", name, "--from", text(&base)];
            d.call(&[&front, options, &["--", "sh", "-c", script]].concat())
        };
        let created = create(&app, &[]);
        created.ok();
        assert!(created.stderr_now().contains("gets a copy of all its files"), "{created:?}");
        d.call(&["start", &app]).ok();
        eventually("it has written", || d.call(&["logs", &app]).ok().lines().count() == 2);
        let map: Vec<Vec<u32>> = d
            .call(&["logs", &app])
            .ok()
            .lines()
            .map(|line| line.split_whitespace().map(|number| number.parse().expect("a number")).collect())
            .collect();
        assert_eq!((&map[0][..], &map[1][..2]), (&[0, user.uid, 1][..], &[1, user.first][..]));
        assert_eq!(d.listed(&app)["state"], "running");
        eventually("it has made its file", || sb.exec_sh(&app, "cat /new").stdout.trim() == "mine");
        // From outside it is the user's.
        let new = d.folder(&app).join("own/upper/new");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(new).expect("a file")), user.uid);
        d.call(&["stop", "-t", "0", &app]).ok();
        d.call(&["start", &app]).ok();
        d.call(&["destroy", "--force", &app]).ok();
        // What needs root is told by name, before anything is there.
        for (options, said) in [
            (&["--init"][..], "a whole system (--init)"),
            (&["--ids", "100000:65536"], "/etc/subuid"),
            (&["--storage", "overlay"], "an ordinary user cannot mount layers"),
        ] {
            create(&app, options).fails_saying(said);
            assert!(!d.folder(&app).exists());
        }
    });
}
