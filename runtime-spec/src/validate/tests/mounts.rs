use super::*;
use crate::model::{Mount, MountAttr, MountIdmap, MountKind, Propagation, PropagationKind, SuperFlags};
use crate::validate::mount_options::OPTIONS;

/// A definition with one mount.
fn one(mount: Value) -> Value {
    json!({ "mounts": [mount] })
}

/// The mount of a bind mount with these options.
#[track_caller]
fn bind(options: &[&str]) -> Mount {
    let mut all = vec!["rbind"];
    all.extend(options);
    lowered(one(json!({"destination": "/d", "source": "/s", "options": all}))).mounts.remove(0)
}

/// The mount of a new tmpfs with these options.
#[track_caller]
fn tmpfs(options: &[&str]) -> Mount {
    lowered(one(json!({"destination": "/d", "type": "tmpfs", "source": "t", "options": options}))).mounts.remove(0)
}

/// Findings of one mount; pointers are relative to it.
#[track_caller]
fn mount(value: Value, expected: &[Expected<'_>]) {
    let pointers: Vec<String> = expected.iter().map(|(_, at, _)| format!("/mounts/0{at}")).collect();
    let expected: Vec<Expected<'_>> =
        expected.iter().zip(&pointers).map(|((severity, _, text), at)| (*severity, at.as_str(), *text)).collect();
    check(one(value), &expected);
}

#[test]
fn the_table_is_sorted_and_has_all_options_of_the_specification() {
    assert!(OPTIONS.is_sorted_by_key(|(name, _)| *name));
    let specified = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
        nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind \
        rdev rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid \
        rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared \
        silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap";
    for name in specified.split_whitespace() {
        assert!(OPTIONS.binary_search_by_key(&name, |(name, _)| *name).is_ok(), "{name}");
    }
}

#[test]
fn kinds() {
    let kind = |value: Value| lowered(one(value)).mounts.remove(0).kind;
    let at =
        |kind: &str, options: &[&str]| json!({"destination": "/d", "type": kind, "source": "s", "options": options});
    assert_eq!(kind(at("tmpfs", &[])), MountKind::Filesystem("tmpfs".into()));
    assert_eq!(kind(at("none", &["rbind"])), MountKind::Bind { recursive: true });
    assert_eq!(kind(at("tmpfs", &["bind"])), MountKind::Bind { recursive: false });
    assert_eq!(kind(at("bind", &[])), MountKind::Bind { recursive: false });
    assert_eq!(kind(at("bind", &["rbind", "bind"])), MountKind::Bind { recursive: true });
    assert_eq!(kind(at("cgroup", &["ro"])), MountKind::Cgroup);
    assert_eq!(kind(at("cgroup2", &[])), MountKind::Cgroup);
    assert_eq!(kind(at("cgroup", &["bind"])), MountKind::Bind { recursive: false });
    assert_eq!(kind(at("", &["remount", "ro"])), MountKind::Remount { bind: false });
    assert_eq!(kind(json!({"destination": "/d", "options": ["bind", "remount"]})), MountKind::Remount { bind: true });
    mount(json!({"destination": "/d", "source": "s"}), &[(Error, "/type", "no option bind or rbind")]);
    mount(
        json!({"destination": "/d", "type": "none", "source": "s"}),
        &[(Error, "/type", "\"none\" is for bind mounts only")],
    );
    mount(json!({"destination": "/d", "options": ["bind"]}), &[(Error, "/source", "is required for a bind mount")]);
    mount(
        json!({"destination": "/d", "type": "cgroup", "source": "s", "options": ["ro", "nsdelegate", "odd=1"]}),
        &[(Warning, "/options", "\"nsdelegate,odd=1\", which a view of the cgroups does not change")],
    );
}

#[test]
fn destinations() {
    mount(json!({"type": "tmpfs"}), &[(Error, "/destination", "is required")]);
    mount(
        json!({"type": "tmpfs", "destination": "a\0"}),
        &[(Error, "/destination", "NUL"), (Warning, "/destination", "relative")],
    );
    let relative = json!({"type": "tmpfs", "destination": "data/x"});
    mount(relative.clone(), &[(Warning, "/destination", "\"data/x\" is relative, which is deprecated")]);
    assert_eq!(lowered(one(relative)).mounts[0].destination, "/data/x");
}

#[test]
fn attributes() {
    let m = bind(&["ro", "nosuid", "nodev", "noexec", "nodiratime", "nosymfollow"]);
    let all = MountAttr::RDONLY
        | MountAttr::NOSUID
        | MountAttr::NODEV
        | MountAttr::NOEXEC
        | MountAttr::NODIRATIME
        | MountAttr::NOSYMFOLLOW;
    assert_eq!((m.set, m.clear), (all, MountAttr::empty()));
    let m = bind(&["rw", "suid", "dev", "exec", "diratime", "symfollow"]);
    assert_eq!((m.set, m.clear), (MountAttr::empty(), all));
    let m = bind(&["ro", "rw", "rw", "ro", "noexec", "exec", "defaults"]);
    assert_eq!((m.set, m.clear), (MountAttr::RDONLY, MountAttr::NOEXEC));
    let m = bind(&["rro", "rnosuid", "rnodev", "rnoexec", "rnodiratime", "rnosymfollow", "noexec"]);
    assert_eq!((m.recursive_set, m.recursive_clear, m.set), (all, MountAttr::empty(), MountAttr::NOEXEC));
    let m = bind(&["rrw", "rsuid", "rdev", "rexec", "rdiratime", "rsymfollow"]);
    assert_eq!((m.recursive_set, m.recursive_clear, m.clear), (MountAttr::empty(), all, MountAttr::empty()));
}

#[test]
fn access_times_are_one_field() {
    let (no, strict, relative) = (MountAttr::NOATIME, MountAttr::STRICTATIME, MountAttr::empty());
    let cases: &[(&[&str], MountAttr)] = &[
        (&["noatime"], no),
        (&["strictatime"], strict),
        (&["relatime"], relative),
        (&["atime"], relative),
        (&["norelatime"], relative),
        (&["nostrictatime"], relative),
        (&["noatime", "atime"], relative),
        (&["noatime", "nostrictatime"], no),
        (&["noatime", "norelatime"], no),
        (&["noatime", "strictatime"], strict),
        (&["strictatime", "noatime"], no),
        (&["strictatime", "relatime"], relative),
        (&["strictatime", "nostrictatime"], relative),
    ];
    for (options, mode) in cases {
        let m = bind(options);
        assert_eq!((m.set, m.clear), (*mode, MountAttr::ATIME), "{options:?}");
        assert_eq!(MountAttr::ATIME.bits(), 0x70);
        let recursive: Vec<String> = options.iter().map(|option| format!("r{option}")).collect();
        let m = bind(&recursive.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((m.recursive_set, m.recursive_clear, m.clear), (*mode, MountAttr::ATIME, relative), "r {options:?}");
    }
    assert_eq!(bind(&[]).clear, MountAttr::empty());
}

#[test]
fn flags_of_the_file_system() {
    let m = tmpfs(&["sync", "dirsync", "mand", "silent", "iversion", "lazytime", "ro", "nosuid"]);
    assert_eq!((m.super_set, m.super_clear), (SuperFlags::all(), SuperFlags::empty()));
    assert_eq!(m.set, MountAttr::RDONLY | MountAttr::NOSUID);
    let m = tmpfs(&["async", "nomand", "loud", "noiversion", "nolazytime", "rw"]);
    assert_eq!((m.super_set, m.super_clear), (SuperFlags::empty(), SuperFlags::all() - SuperFlags::DIRSYNC));
    let m = bind(&["ro"]);
    assert_eq!((m.super_set, m.super_clear), (SuperFlags::empty(), SuperFlags::empty()));
    mount(
        json!({"destination": "/d", "source": "s", "options": ["bind", "sync"]}),
        &[(Warning, "/options", "flags of the file system")],
    );
    let cgroup = lowered(one(json!({"destination": "/d", "type": "cgroup", "options": ["ro"]}))).mounts.remove(0);
    assert_eq!((cgroup.super_set, cgroup.set), (SuperFlags::empty(), MountAttr::RDONLY));
}

#[test]
fn what_is_not_known_belongs_to_the_file_system() {
    assert_eq!(
        tmpfs(&["mode=755", "size=64k", "ro", "acl", "huge=always"]).data,
        ["mode=755", "size=64k", "acl", "huge=always"]
    );
    mount(
        json!({"destination": "/d", "source": "s", "options": ["bind", "size=1", "x"]}),
        &[(Warning, "/options", "has \"size=1,x\", which a bind mount does not change")],
    );
}

#[test]
fn propagation_keeps_its_order() {
    let of = |kind: PropagationKind, recursive: bool| Propagation { kind, recursive };
    let m = bind(&["rprivate", "shared"]);
    assert_eq!(m.propagation, [of(PropagationKind::Private, true), of(PropagationKind::Shared, false)]);
    let all = ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"];
    let kinds: Vec<String> = bind(&all).propagation.iter().map(|p| format!("{:?}{}", p.kind, p.recursive)).collect();
    assert_eq!(
        kinds.join(" "),
        "Privatefalse Privatetrue Sharedfalse Sharedtrue Slavefalse Slavetrue Unbindablefalse Unbindabletrue"
    );
}

#[test]
fn idmap() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    let with = |options: &[&str], uids: &Value, gids: &Value| json!({"destination": "/d", "source": "/s", "options": options, "uidMappings": uids, "gidMappings": gids});
    let null = Value::Null;
    let m = lowered(one(with(&["bind", "ridmap"], &map, &map))).mounts.remove(0);
    assert!(m.idmap.is_some_and(|m| m.recursive && m.uid_mappings.len() == 1 && m.gid_mappings.len() == 1));
    mount(with(&["bind"], &map, &map), &[(Warning, "/options", "idmap is assumed")]);
    mount(
        with(&["bind", "idmap"], &map, &null),
        &[(Error, "/gidMappings", "is required, because uidMappings is there")],
    );
    mount(with(&["bind", "idmap"], &json!([]), &map), &[(Error, "/uidMappings", "is required")]);
    mount(with(&["bind", "idmap"], &null, &null), &[(Error, "/options", "neither the mount nor the container")]);
    let overflow = json!([{"containerID": 1, "hostID": 1, "size": u32::MAX}]);
    mount(
        with(&["bind", "idmap"], &overflow, &map),
        &[(Error, "/uidMappings/0/containerID", "beyond"), (Error, "/uidMappings/0/hostID", "beyond")],
    );
    mount(
        json!({"destination": "/d", "type": "tmpfs", "options": ["idmap"], "uidMappings": map, "gidMappings": map}),
        &[(Error, "", "which only bind mounts can have")],
    );
    let user = json!({"linux": {"namespaces": [{"type": "user", "path": "/u"}]}, "mounts": [with(&["bind", "idmap"], &null, &null)]});
    assert_eq!(lowered(user).mounts[0].idmap, Some(MountIdmap::default()));
}

#[test]
fn options_beyond_the_table_of_the_specification() {
    let m = bind(&["copy-symlink"]);
    assert!(m.copy_symlink && m.data.is_empty());
    let m = bind(&["src-nofollow", "dest-nofollow"]);
    assert!(m.src_nofollow && m.dest_nofollow);
    assert!(tmpfs(&["tmpcopyup"]).tmpcopyup);
    let with =
        |kind: &str, options: &[&str]| json!({"destination": "/d", "type": kind, "source": "/s", "options": options});
    mount(with("bind", &["copy-symlink", "src-nofollow"]), &[(Error, "/options", "cannot have copy-symlink with")]);
    mount(with("bind", &["tmpcopyup"]), &[(Warning, "/options", "tmpfs only")]);
    mount(with("tmpfs", &["src-nofollow"]), &[(Warning, "/options", "bind mounts only")]);
}

#[test]
fn order_is_kept_and_nul_is_refused() {
    let list: Vec<Value> = ["/b", "/a", "/b"].iter().map(|d| json!({"destination": d, "type": "tmpfs"})).collect();
    let spec = lowered(json!({ "mounts": list }));
    assert_eq!(spec.mounts.iter().map(|m| m.destination.as_str()).collect::<Vec<_>>(), ["/b", "/a", "/b"]);
    mount(
        json!({"destination": "/\0", "type": "t\0", "source": "\0", "options": ["a", "b\0"]}),
        &[
            (Error, "/destination", "NUL"),
            (Error, "/type", "NUL"),
            (Error, "/source", "NUL"),
            (Error, "/options/1", "NUL"),
        ],
    );
}
