//! The table of mount options, and what a list of them means.
//!
//! Access times are one setting with three values in the kernel, not three flags, so the last option counts, and
//! naming any of them puts the whole field [`MountAttr::ATIME`] into `clear`, as `mount_setattr(2)` wants it: the new
//! attributes are `(old & !clear) | set`.

use crate::model::{Mount, MountAttr, Propagation, PropagationKind, SuperFlags};

/// What one option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: the name is there for tables such as fstab(5).
    Nothing,
    /// Read-only, the mount and its file system.
    ReadOnly(bool),
    /// Sets attributes of the mount.
    Set(MountAttr),
    /// Clears attributes of the mount.
    Clear(MountAttr),
    /// Makes this the access time mode. Empty is relatime.
    Atime(MountAttr),
    /// Leaves this access time mode, if it is the one, for relatime.
    LeaveAtime(MountAttr),
    /// The same four for the mount and all below it.
    RecursiveSet(MountAttr),
    RecursiveClear(MountAttr),
    RecursiveAtime(MountAttr),
    RecursiveLeaveAtime(MountAttr),
    /// Sets flags of the file system.
    SetSuper(SuperFlags),
    /// Clears flags of the file system.
    ClearSuper(SuperFlags),
    /// Bind mount, with what is mounted below or without.
    Bind {
        recursive: bool,
    },
    /// Changes a mount that is there.
    Remount,
    /// Changes how mount events spread.
    Spread(Propagation),
    /// Maps ids, with what is mounted below or without.
    Idmap {
        recursive: bool,
    },
    /// `tmpcopyup`.
    CopyUp,
    /// `copy-symlink`.
    CopySymlink,
    /// `src-nofollow`.
    SourceNoFollow,
    /// `dest-nofollow`.
    DestinationNoFollow,
}

use Effect::{
    Atime, Bind, Clear, ClearSuper, CopySymlink, CopyUp, DestinationNoFollow, Idmap, LeaveAtime, Nothing, ReadOnly,
    RecursiveAtime, RecursiveClear, RecursiveLeaveAtime, RecursiveSet, Remount, Set, SetSuper, SourceNoFollow, Spread,
};
use PropagationKind::{Private, Shared, Slave, Unbindable};

const RELATIME: MountAttr = MountAttr::empty();

const fn spread(kind: PropagationKind, recursive: bool) -> Propagation {
    Propagation { kind, recursive }
}

/// Propagation by name, for `rootfsPropagation` too. The specification has the four without `r` there; other runtimes
/// take all eight, and callers use them.
pub(crate) const PROPAGATION: [(&str, Propagation); 8] = [
    ("private", spread(Private, false)),
    ("rprivate", spread(Private, true)),
    ("rshared", spread(Shared, true)),
    ("rslave", spread(Slave, true)),
    ("runbindable", spread(Unbindable, true)),
    ("shared", spread(Shared, false)),
    ("slave", spread(Slave, false)),
    ("unbindable", spread(Unbindable, false)),
];

/// All options by name, sorted. What is not here is the file system's own and goes to `data`; so does `acl`, which is
/// no flag of the mount call that a caller may set.
pub(crate) const OPTIONS: [(&str, Effect); 65] = [
    ("async", ClearSuper(SuperFlags::SYNCHRONOUS)),
    ("atime", LeaveAtime(MountAttr::NOATIME)),
    ("bind", Bind { recursive: false }),
    ("copy-symlink", CopySymlink),
    ("defaults", Nothing),
    ("dest-nofollow", DestinationNoFollow),
    ("dev", Clear(MountAttr::NODEV)),
    ("diratime", Clear(MountAttr::NODIRATIME)),
    ("dirsync", SetSuper(SuperFlags::DIRSYNC)),
    ("exec", Clear(MountAttr::NOEXEC)),
    ("idmap", Idmap { recursive: false }),
    ("iversion", SetSuper(SuperFlags::I_VERSION)),
    ("lazytime", SetSuper(SuperFlags::LAZYTIME)),
    ("loud", ClearSuper(SuperFlags::SILENT)),
    ("mand", SetSuper(SuperFlags::MANDLOCK)),
    ("noatime", Atime(MountAttr::NOATIME)),
    ("nodev", Set(MountAttr::NODEV)),
    ("nodiratime", Set(MountAttr::NODIRATIME)),
    ("noexec", Set(MountAttr::NOEXEC)),
    ("noiversion", ClearSuper(SuperFlags::I_VERSION)),
    ("nolazytime", ClearSuper(SuperFlags::LAZYTIME)),
    ("nomand", ClearSuper(SuperFlags::MANDLOCK)),
    ("norelatime", LeaveAtime(RELATIME)),
    ("nostrictatime", LeaveAtime(MountAttr::STRICTATIME)),
    ("nosuid", Set(MountAttr::NOSUID)),
    ("nosymfollow", Set(MountAttr::NOSYMFOLLOW)),
    ("private", Spread(PROPAGATION[0].1)),
    ("ratime", RecursiveLeaveAtime(MountAttr::NOATIME)),
    ("rbind", Bind { recursive: true }),
    ("rdev", RecursiveClear(MountAttr::NODEV)),
    ("rdiratime", RecursiveClear(MountAttr::NODIRATIME)),
    ("relatime", Atime(RELATIME)),
    ("remount", Remount),
    ("rexec", RecursiveClear(MountAttr::NOEXEC)),
    ("ridmap", Idmap { recursive: true }),
    ("rnoatime", RecursiveAtime(MountAttr::NOATIME)),
    ("rnodev", RecursiveSet(MountAttr::NODEV)),
    ("rnodiratime", RecursiveSet(MountAttr::NODIRATIME)),
    ("rnoexec", RecursiveSet(MountAttr::NOEXEC)),
    ("rnorelatime", RecursiveLeaveAtime(RELATIME)),
    ("rnostrictatime", RecursiveLeaveAtime(MountAttr::STRICTATIME)),
    ("rnosuid", RecursiveSet(MountAttr::NOSUID)),
    ("rnosymfollow", RecursiveSet(MountAttr::NOSYMFOLLOW)),
    ("ro", ReadOnly(true)),
    ("rprivate", Spread(PROPAGATION[1].1)),
    ("rrelatime", RecursiveAtime(RELATIME)),
    ("rro", RecursiveSet(MountAttr::RDONLY)),
    ("rrw", RecursiveClear(MountAttr::RDONLY)),
    ("rshared", Spread(PROPAGATION[2].1)),
    ("rslave", Spread(PROPAGATION[3].1)),
    ("rstrictatime", RecursiveAtime(MountAttr::STRICTATIME)),
    ("rsuid", RecursiveClear(MountAttr::NOSUID)),
    ("rsymfollow", RecursiveClear(MountAttr::NOSYMFOLLOW)),
    ("runbindable", Spread(PROPAGATION[4].1)),
    ("rw", ReadOnly(false)),
    ("shared", Spread(PROPAGATION[5].1)),
    ("silent", SetSuper(SuperFlags::SILENT)),
    ("slave", Spread(PROPAGATION[6].1)),
    ("src-nofollow", SourceNoFollow),
    ("strictatime", Atime(MountAttr::STRICTATIME)),
    ("suid", Clear(MountAttr::NOSUID)),
    ("symfollow", Clear(MountAttr::NOSYMFOLLOW)),
    ("sync", SetSuper(SuperFlags::SYNCHRONOUS)),
    ("tmpcopyup", CopyUp),
    ("unbindable", Spread(PROPAGATION[7].1)),
];

/// What the options say beyond the fields of a [`Mount`] that they fill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// `bind` or `rbind`.
    pub(crate) bind: bool,
    /// `rbind`.
    pub(crate) bind_recursive: bool,
    /// `remount`.
    pub(crate) remount: bool,
    /// `idmap` (false) or `ridmap` (true).
    pub(crate) idmap: Option<bool>,
}

/// Sorts options into a mount.
pub(crate) fn sort(options: &[String], mount: &mut Mount) -> Wishes {
    let mut wishes = Wishes::default();
    for option in options {
        match OPTIONS.binary_search_by_key(&option.as_str(), |(name, _)| *name) {
            Ok(index) => apply(OPTIONS[index].1, mount, &mut wishes),
            Err(_) => mount.data.push(option.clone()),
        }
    }
    wishes
}

fn apply(effect: Effect, mount: &mut Mount, wishes: &mut Wishes) {
    let (attr, recursive) =
        ((&mut mount.set, &mut mount.clear), (&mut mount.recursive_set, &mut mount.recursive_clear));
    match effect {
        Nothing => {}
        ReadOnly(on) => {
            change(attr, MountAttr::RDONLY, on);
            change_super(mount, SuperFlags::RDONLY, on);
        }
        Set(flags) => change(attr, flags, true),
        Clear(flags) => change(attr, flags, false),
        Atime(mode) => atime(attr, MountAttr::ATIME, mode),
        LeaveAtime(mode) => atime(attr, mode, RELATIME),
        RecursiveSet(flags) => change(recursive, flags, true),
        RecursiveClear(flags) => change(recursive, flags, false),
        RecursiveAtime(mode) => atime(recursive, MountAttr::ATIME, mode),
        RecursiveLeaveAtime(mode) => atime(recursive, mode, RELATIME),
        SetSuper(flags) => change_super(mount, flags, true),
        ClearSuper(flags) => change_super(mount, flags, false),
        Bind { recursive } => {
            wishes.bind = true;
            wishes.bind_recursive |= recursive;
        }
        Remount => wishes.remount = true,
        Spread(propagation) => mount.propagation.push(propagation),
        Idmap { recursive } => wishes.idmap = Some(recursive),
        CopyUp => mount.tmpcopyup = true,
        CopySymlink => mount.copy_symlink = true,
        SourceNoFollow => mount.src_nofollow = true,
        DestinationNoFollow => mount.dest_nofollow = true,
    }
}

/// Sets or clears plain attributes; the later option wins.
fn change((set, clear): (&mut MountAttr, &mut MountAttr), flags: MountAttr, on: bool) {
    set.set(flags, on);
    clear.set(flags, !on);
}

/// Changes the access time mode: gives up the modes in `leave` for `mode`.
fn atime((set, clear): (&mut MountAttr, &mut MountAttr), leave: MountAttr, mode: MountAttr) {
    *set = set.difference(leave).union(mode);
    *clear |= MountAttr::ATIME;
}

fn change_super(mount: &mut Mount, flags: SuperFlags, on: bool) {
    mount.super_set.set(flags, on);
    mount.super_clear.set(flags, !on);
}
