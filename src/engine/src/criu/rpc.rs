//! CRIU's requests and answers. Source of names and numbers: CRIU, `images/rpc.proto`, and its documentation of RPC.

use super::wire::{Malformed, Reader, Writer};

/// What is asked for, and what an answer belongs to: `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Saves a tree of processes, which ends unless it is left running.
    Dump,
    /// Brings a tree back.
    Restore,
    /// Saves memory alone; the tree goes on.
    PreDump,
    /// CRIU tells of a point that it has reached, and waits for an answer.
    Notify,
    /// Asks what CRIU and the kernel can do.
    FeatureCheck,
    /// Asks for the version.
    Version,
}

impl Kind {
    const ALL: [(Kind, u64, &'static str); 6] = [
        (Kind::Dump, 1, "DUMP"),
        (Kind::Restore, 2, "RESTORE"),
        (Kind::PreDump, 4, "PRE_DUMP"),
        (Kind::Notify, 6, "NOTIFY"),
        (Kind::FeatureCheck, 9, "FEATURE_CHECK"),
        (Kind::Version, 10, "VERSION"),
    ];

    fn number(self) -> u64 {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or(0, |(_, number, _)| *number)
    }

    /// The name in CRIU's own sources.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(.., name)| name)
    }
}

/// A pair of texts: the mount point in the container, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExternalMount {
    /// When dumping the mount point; when restoring what the dump named it.
    pub key: String,
    /// When dumping the name for the restore; when restoring the path on the host.
    pub value: String,
}

/// A descriptor that CRIU gets from us in the place of one that the images name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InheritedFd {
    /// The name, such as `pipe:[4711]`.
    pub key: String,
    /// Its number in CRIU.
    pub fd: i32,
}

/// `criu_opts`. Numbers of descriptors are those of this process, where CRIU opens them again, but for
/// [`Options::inherited`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub images_dir_fd: i32,
    pub work_dir_fd: Option<i32>,
    pub pid: Option<i32>,
    pub leave_running: bool,
    pub ext_unix_sk: bool,
    pub tcp_established: bool,
    pub tcp_skip_in_flight: bool,
    pub tcp_close: bool,
    pub evasive_devices: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub link_remap: bool,
    pub log_file: &'static str,
    /// Address and port.
    pub page_server: Option<(String, u16)>,
    pub root: String,
    pub parent_images: Option<String>,
    pub auto_dedup: bool,
    pub lazy_pages: bool,
    pub status_fd: Option<i32>,
    pub external_mounts: Vec<ExternalMount>,
    /// `KIND[INODE]:KEY` of namespaces that are not the container's own.
    pub external: Vec<String>,
    /// Controller and group.
    pub cgroup_roots: Vec<(String, String)>,
    /// The restored tree becomes a sibling of CRIU, so a child of ours.
    pub restore_sibling: bool,
    pub inherited: Vec<InheritedFd>,
    /// Kind and path of namespaces to restore into.
    pub join_namespaces: Vec<(&'static str, String)>,
    /// `criu_cg_mode`.
    pub cgroups_mode: u64,
    pub freeze_cgroup: Option<String>,
    pub config_file: Option<String>,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
    /// `criu_network_lock_method`.
    pub network_lock: Option<u64>,
}

/// `log_level`: errors, warnings, information and debug messages.
const LOG_LEVEL_DEBUG: i32 = 4;
/// CLONE_NEWNET: CRIU restores the network namespace without the devices in it, which are the engine's to bring.
const EMPTY_NETWORK: u64 = 0x4000_0000;

impl Options {
    fn write(&self, w: &mut Writer) {
        w.int(1, self.images_dir_fd);
        for (field, value) in [(2, self.pid), (17, self.work_dir_fd), (49, self.status_fd)] {
            if let Some(value) = value {
                w.int(field, value);
            }
        }
        for (field, on) in [
            (3, self.leave_running),
            (4, self.ext_unix_sk),
            (5, self.tcp_established),
            (6, self.evasive_devices),
            (7, self.shell_job),
            (8, self.file_locks),
            (12, true),                         // notify_scripts
            (15, self.parent_images.is_some()), // track_mem
            (16, self.auto_dedup),
            (18, self.link_remap),
            (24, true), // manage_cgroups
            (26, self.restore_sibling),
            (46, self.tcp_skip_in_flight),
            (48, self.lazy_pages),
            (50, true), // orphan_pts_master
            (52, self.tcp_close),
        ] {
            w.flag(field, on);
        }
        w.int(9, LOG_LEVEL_DEBUG);
        w.text(10, self.log_file);
        if let Some((address, port)) = &self.page_server {
            w.message(11, |w| {
                w.text(1, address);
                w.int(2, i32::from(*port));
            });
        }
        w.text(13, &self.root);
        w.optional(14, self.parent_images.as_deref());
        for mount in &self.external_mounts {
            w.message(23, |w| {
                w.text(1, &mount.key);
                w.text(2, &mount.value);
            });
        }
        for (controller, path) in &self.cgroup_roots {
            w.message(25, |w| {
                w.text(1, controller);
                w.text(2, path);
            });
        }
        for inherited in &self.inherited {
            w.message(27, |w| {
                w.text(1, &inherited.key);
                w.int(2, inherited.fd);
            });
        }
        w.uint(34, self.cgroups_mode);
        for external in &self.external {
            w.text(37, external);
        }
        w.uint(38, EMPTY_NETWORK);
        for (kind, path) in &self.join_namespaces {
            w.message(39, |w| {
                w.text(1, kind);
                w.text(2, path);
            });
        }
        w.optional(44, self.freeze_cgroup.as_deref());
        w.optional(51, self.config_file.as_deref());
        w.optional(53, self.lsm_profile.as_deref());
        w.optional(63, self.lsm_mount_context.as_deref());
        if let Some(method) = self.network_lock {
            w.uint(64, method);
        }
    }
}

/// `criu_features`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// The kernel tells which pages were written to.
    pub mem_track: bool,
    /// Pages can be brought when they are touched.
    pub lazy_pages: bool,
}

/// Asks for something. With `keep_open` another request may follow; CRIU allows that after questions only.
pub(crate) fn request(kind: Kind, options: Option<&Options>, keep_open: bool) -> Vec<u8> {
    let mut w = Writer::default();
    w.uint(1, kind.number());
    if let Some(options) = options {
        w.message(2, |w| options.write(w));
    }
    w.flag(4, keep_open);
    w.finish()
}

/// Asks which of these features there are.
pub(crate) fn feature_request(wanted: Features, keep_open: bool) -> Vec<u8> {
    let mut w = Writer::default();
    w.uint(1, Kind::FeatureCheck.number());
    w.flag(4, keep_open);
    w.message(5, |w| {
        w.flag(1, wanted.mem_track);
        w.flag(2, wanted.lazy_pages);
    });
    w.finish()
}

/// Answers a notification.
pub(crate) fn notified(success: bool) -> Vec<u8> {
    let mut w = Writer::default();
    w.uint(1, Kind::Notify.number());
    w.uint(3, u64::from(success));
    w.finish()
}

/// `criu_resp`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Response {
    /// What it answers; `None` for something that we never ask.
    pub kind: Option<Kind>,
    pub success: bool,
    /// The restored process.
    pub restored: Option<i32>,
    pub notification: Option<Notification>,
    /// An errno of the kernel's, or 0.
    pub errno: i32,
    pub message: String,
    pub features: Features,
    pub version: Version,
}

/// `criu_notify`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notification {
    /// The point, such as `setup-namespaces`.
    pub point: String,
    /// First process of the tree, where it is about one.
    pub pid: Option<i32>,
}

/// A version of CRIU: major, minor, sublevel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub i32, pub i32, pub i32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Reads an answer.
pub(crate) fn parse_response(bytes: &[u8]) -> Result<Response, Malformed> {
    let mut response = Response::default();
    for field in Reader::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => {
                let wanted = value.int().map(i64::from);
                let found = Kind::ALL.iter().find(|(_, number, _)| wanted == i64::try_from(*number).ok());
                response.kind = found.map(|(kind, ..)| *kind);
            }
            2 => response.success = value.is_on(),
            4 => response.restored = number_in(value.bytes(), 1)?,
            5 => response.notification = Some(parse_notification(value.bytes())?),
            7 => response.errno = value.int().unwrap_or_default(),
            8 => {
                let bytes = value.bytes();
                let has = |field| Ok(number_in(bytes, field)?.is_some_and(|value| value != 0));
                response.features = Features { mem_track: has(1)?, lazy_pages: has(2)? };
            }
            9 => response.message = value.text(),
            10 => {
                let part = |field| Ok(number_in(value.bytes(), field)?.unwrap_or_default());
                response.version = Version(part(1)?, part(2)?, part(4)?);
            }
            _ => {}
        }
    }
    Ok(response)
}

fn parse_notification(bytes: &[u8]) -> Result<Notification, Malformed> {
    let mut notification = Notification::default();
    for field in Reader::new(bytes) {
        match field? {
            (1, value) => notification.point = value.text(),
            (2, value) => notification.pid = value.int(),
            _ => {}
        }
    }
    Ok(notification)
}

/// The last value of a number's field.
fn number_in(bytes: &[u8], wanted: u64) -> Result<Option<i32>, Malformed> {
    let mut found = None;
    for field in Reader::new(bytes) {
        match field? {
            (number, value) if number == wanted => found = value.int(),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_requests_have_known_bytes() {
        assert_eq!(request(Kind::Version, None, true), [0x08, 0x0a, 0x20, 0x01]);
        assert_eq!(notified(true), [0x08, 0x06, 0x18, 0x01]);
        assert_eq!(notified(false), [0x08, 0x06, 0x18, 0x00]);
        let features = Features { mem_track: true, lazy_pages: false };
        assert_eq!(feature_request(features, false), [0x08, 0x09, 0x2a, 0x02, 0x08, 0x01]);
    }

    /// What the protocol wants in every dump, byte by byte.
    #[test]
    fn the_smallest_dump_has_known_bytes() {
        let options = Options {
            images_dir_fd: 5,
            pid: Some(300),
            log_file: "dump.log",
            root: "/r".to_owned(),
            ..Options::default()
        };
        let expected = [
            &[0x08, 0x01, 0x12, 45][..],
            &[0x08, 5, 0x10, 0xac, 0x02],             // images_dir_fd, pid
            &[0x60, 1, 0xc0, 0x01, 1, 0x90, 0x03, 1], // notify_scripts, manage_cgroups, orphan_pts_master
            &[0x48, 4, 0x52, 8],                      // log_level, log_file
            b"dump.log",
            &[0x6a, 2, b'/', b'r'],                      // root
            &[0x90, 0x02, 0],                            // manage_cgroups_mode
            &[0xb0, 0x02, 0x80, 0x80, 0x80, 0x80, 0x04], // empty_ns
        ]
        .concat();
        let bytes = request(Kind::Dump, Some(&options), false);
        assert_eq!(bytes[3] as usize, bytes.len() - 4);
        assert_eq!(bytes[4..], expected[4..]);
        assert_eq!(bytes[..3], expected[..3]);
    }

    #[test]
    fn options_reach_their_fields() {
        let options = Options {
            page_server: Some(("::1".to_owned(), 27_277)),
            inherited: vec![InheritedFd { key: "pipe:[7]".to_owned(), fd: 1 }],
            external_mounts: vec![ExternalMount { key: "/a".to_owned(), value: "/b".to_owned() }],
            cgroup_roots: vec![("cpu".to_owned(), "/c".to_owned())],
            join_namespaces: vec![("ipc", "/proc/1/ns/ipc".to_owned())],
            ..Options::default()
        };
        let bytes = request(Kind::Restore, Some(&options), false);
        let (_, inner) = Reader::new(&bytes).nth(1).unwrap().unwrap();
        let fields: Vec<_> = Reader::new(inner.bytes()).map(Result::unwrap).collect();
        let of = |number| fields.iter().find(|(n, _)| *n == number).unwrap().1.bytes();
        assert_eq!(of(11), b"\x0a\x03::1\x10\x8d\xd5\x01");
        assert_eq!(of(23), b"\x0a\x02/a\x12\x02/b");
        assert_eq!(of(25), b"\x0a\x03cpu\x12\x02/c");
        assert_eq!(of(27), b"\x0a\x08pipe:[7]\x10\x01");
        assert_eq!(of(39), b"\x0a\x03ipc\x12\x0e/proc/1/ns/ipc");
    }

    #[test]
    fn answers_are_read() {
        let version = parse_response(b"\x08\x0a\x10\x01\x52\x06\x08\x03\x10\x11\x20\x01").unwrap();
        assert_eq!((version.kind, version.success), (Some(Kind::Version), true));
        assert_eq!(version.version.to_string(), "3.17.1");
        assert!(version.version > Version(3, 16, 9));

        let notify = parse_response(b"\x08\x06\x10\x01\x2a\x0d\x0a\x09post-dump\x10\x2a").unwrap();
        let expected = Notification { point: "post-dump".to_owned(), pid: Some(42) };
        assert_eq!((notify.kind, notify.notification), (Some(Kind::Notify), Some(expected)));

        let failed = parse_response(b"\x08\x01\x10\x00\x38\x16\x4a\x02no").unwrap();
        assert_eq!((failed.success, failed.errno, failed.message.as_str()), (false, 22, "no"));

        let features = parse_response(b"\x08\x09\x10\x01\x42\x04\x08\x00\x10\x01").unwrap().features;
        assert_eq!(features, Features { mem_track: false, lazy_pages: true });
        let restored = parse_response(b"\x08\x02\x10\x01\x22\x02\x08\x07").unwrap();
        assert_eq!((restored.kind, restored.restored), (Some(Kind::Restore), Some(7)));
        assert!(parse_response(b"\x08").is_err());
        assert_eq!(parse_response(b"\x08\x63").unwrap().kind, None);
    }
}
