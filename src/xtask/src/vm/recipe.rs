//! What the machine is made of: packages, kernels, boots, and what differs from a plain installation.

/// A way to boot the one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boot {
    /// The lane's name: `vm-` and the cgroup layout.
    pub(crate) name: &'static str,
    /// Debian's package that depends on the newest kernel of a line.
    pub(crate) kernel: &'static str,
    /// What the command line says besides [`COMMAND_LINE`].
    pub(crate) arguments: &'static str,
}

/// A kernel with everything on v2. `unified_cgroup_hierarchy=1` is Debian's default; said, so that it stays.
pub(crate) const V2: Boot = Boot {
    name: "vm-v2",
    kernel: "linux-image-6.12-cloud-amd64",
    arguments: "systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all",
};

/// Everything on v1. Linux 6.12 as Debian builds it has no v1 memory and cpuset any more, 6.1 has.
pub(crate) const V1: Boot = Boot {
    name: "vm-v1",
    kernel: "linux-image-cloud-amd64",
    arguments: "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 \
                systemd.legacy_systemd_cgroup_controller=1",
};

/// All controllers on v1, systemd's own tree on v2.
pub(crate) const HYBRID: Boot = Boot {
    name: "vm-hybrid",
    kernel: "linux-image-cloud-amd64",
    arguments: "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 \
                systemd.legacy_systemd_cgroup_controller=0",
};

/// SELinux in the place of AppArmor, without a policy: a test loads its own.
pub(crate) const SELINUX: Boot = Boot {
    name: "vm-selinux",
    kernel: "linux-image-6.12-cloud-amd64",
    arguments: "systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all security=selinux",
};

/// All boots.
pub(crate) const BOOTS: [Boot; 4] = [V2, V1, HYBRID, SELINUX];

/// The kernel command line of every boot. Mitigations cost time and protect nothing here.
pub(crate) const COMMAND_LINE: &str = "console=ttyS0 panic=1 quiet mitigations=off net.ifnames=0";

/// Debian packages of the root file system.
pub(crate) const PACKAGES: [&str; 49] = [
    // The system itself, with user managers for a caller without root.
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "udev",
    "kmod",
    "login",
    "passwd",
    "sudo",
    "apparmor",
    // What tests call.
    "busybox-static",
    "iproute2",
    "iputils-ping",
    "procps",
    "psmisc",
    "util-linux",
    "bsdextrautils",
    "perl-base",
    "python3",
    "jq",
    "strace",
    "tar",
    "attr",
    "acl",
    "e2fsprogs",
    "tini",
    "gcc",
    "libc6-dev",
    "libseccomp-dev",
    // What runc's own tests are written in; see `conformance`.
    "bats",
    "gawk",
    "xz-utils",
    // Engines and runtimes, and what they need.
    "podman",
    "conmon",
    "containerd",
    "runc",
    "crun",
    "criu",
    "containernetworking-plugins",
    "curl",
    "checkpolicy",
    "golang-github-containers-common",
    "fuse-overlayfs",
    "slirp4netns",
    "uidmap",
    "nftables",
    "iptables",
    "ca-certificates",
];

/// Folders of packages that no test reads.
pub(crate) const LEFT_OUT: [&str; 5] =
    ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/i18n/*"];

/// Units that only cost time in a machine that is saved and restored, or that wait for devices that it has not.
///
/// `apparmor` compiles every profile, 22 s here; a test loads the one that it means.
pub(crate) const MASKED: [&str; 34] = [
    "apparmor.service",
    "systemd-random-seed.service",
    "systemd-binfmt.service",
    "kmod-static-nodes.service",
    "systemd-modules-load.service",
    "systemd-journal-flush.service",
    "systemd-journal-catalog-update.service",
    "systemd-pstore.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-remount-fs.service",
    "systemd-udev-trigger.service",
    "systemd-timesyncd.service",
    "systemd-networkd.service",
    "serial-getty@ttyS0.service",
    "getty@tty1.service",
    "modprobe@configfs.service",
    "modprobe@dm_mod.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    "e2scrub_reap.service",
    "containerd.service",
    "podman.service",
    "podman-auto-update.service",
    "podman-restart.service",
    "nftables.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "dev-hugepages.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-tmpfiles-clean.timer",
];

/// Timers and sockets that a package enables and that would run something in the middle of a test.
pub(crate) const DISABLED: [&str; 5] = ["apt-", "dpkg-", "e2scrub", "fstrim", "podman"];

/// The user for what runs without root: it lingers, so its manager and its bus run, and it has subordinate ids.
pub(crate) const USER: (&str, u32) = ("tester", 1000);

/// Modules that the root disk needs before it is mounted.
pub(crate) const EARLY_MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];

/// Size of the root file system. Sparse: what is on it is about 900 MB.
pub(crate) const ROOT_SIZE: &str = "4G";

/// Files of the guest: path, mode, text.
pub(crate) const GUEST_FILES: [(&str, u32, &str); 8] = [
    ("usr/local/sbin/job", 0o755, include_str!("guest/job")),
    ("etc/systemd/system/job.service", 0o644, include_str!("guest/job.service")),
    ("etc/systemd/journald.conf.d/volatile.conf", 0o644, "[Journal]\nStorage=volatile\n"),
    // Debian gives a user's manager memory and pids alone.
    ("etc/systemd/system/user@.service.d/delegate.conf", 0o644, "[Service]\nDelegate=cpu cpuset io memory pids\n"),
    ("etc/hostname", 0o644, "vm\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost vm\n"),
    ("etc/fstab", 0o644, ""),
    ("etc/machine-id", 0o444, "0123456789abcdef0123456789abcdef\n"),
];

/// The first program of the initrd.
pub(crate) const INIT: &str = include_str!("guest/init");

/// Everything above as text, for the key of the cache.
pub(crate) fn render_recipe() -> String {
    let files: Vec<String> = GUEST_FILES.iter().map(|(path, mode, text)| format!("{path} {mode:o}\n{text}")).collect();
    let boots: Vec<String> = BOOTS.iter().map(|boot| format!("{boot:?}")).collect();
    let lists = [PACKAGES.join(" "), LEFT_OUT.join(" "), MASKED.join(" "), DISABLED.join(" "), EARLY_MODULES.join(" ")];
    let user = format!("{USER:?} {ROOT_SIZE} {COMMAND_LINE}");
    [lists.join("\n"), files.join("\n"), boots.join("\n"), INIT.to_owned(), user].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_guest_file_changes_the_recipe() {
        let text = render_recipe();
        assert!(GUEST_FILES.iter().all(|(_, _, content)| text.contains(content)) && text.contains(INIT));
        assert!(BOOTS.iter().all(|boot| text.contains(boot.arguments)));
    }

    #[test]
    fn names_are_unique() {
        let unique = |list: &[&str]| list.iter().collect::<std::collections::BTreeSet<_>>().len() == list.len();
        assert!(unique(&PACKAGES) && unique(&MASKED) && unique(&BOOTS.map(|boot| boot.name)));
    }
}
