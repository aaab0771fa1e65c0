//! Lines, includes and old names: from text to entries, each with where it stands.

use super::{Log, Place};

/// What the caller found where a configuration points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file's content.
    File(String),
    /// The files of a folder that end in `.conf`, by their paths, in order.
    Folder(Vec<String>),
}

/// Reads what a path names, or says why it cannot be read.
pub type Reader<'a> = dyn FnMut(&str) -> Result<Found, String> + 'a;

/// A configuration's own text.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// How the file is called in findings.
    pub name: &'a str,
    /// Its content.
    pub text: &'a str,
}

/// `key = value` as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) place: Place,
    /// The key by its present name.
    pub(super) key: String,
    /// Without quotes and outer blanks; empty takes back what was said before.
    pub(super) value: String,
}

/// How deep files may include files.
const DEPTH_MAX: usize = 32;

/// Most lines of all files: an honest configuration has a few hundred, and each include may double what follows.
const LINES_MAX: usize = 100_000;

/// Names before LXC 2.1 that have others now (lxc-update-config(1)). `None`: the setting is gone.
const OLD: [(&str, Option<&str>); 27] = [
    ("lxc.aa_allow_incomplete", Some("lxc.apparmor.allow_incomplete")),
    ("lxc.aa_profile", Some("lxc.apparmor.profile")),
    ("lxc.console", Some("lxc.console.path")),
    ("lxc.console.buffer.logfile", None),
    ("lxc.devttydir", Some("lxc.tty.dir")),
    ("lxc.haltsignal", Some("lxc.signal.halt")),
    ("lxc.id_map", Some("lxc.idmap")),
    ("lxc.init_cmd", Some("lxc.init.cmd")),
    ("lxc.init_gid", Some("lxc.init.gid")),
    ("lxc.init_uid", Some("lxc.init.uid")),
    ("lxc.kmsg", None),
    ("lxc.logfile", Some("lxc.log.file")),
    ("lxc.loglevel", Some("lxc.log.level")),
    ("lxc.mount", Some("lxc.mount.fstab")),
    ("lxc.network", Some("lxc.net")),
    ("lxc.pivotdir", None),
    ("lxc.pts", Some("lxc.pty.max")),
    ("lxc.rebootsignal", Some("lxc.signal.reboot")),
    ("lxc.rootfs", Some("lxc.rootfs.path")),
    ("lxc.rootfs.backend", None),
    ("lxc.se_context", Some("lxc.selinux.context")),
    ("lxc.seccomp", Some("lxc.seccomp.profile")),
    ("lxc.stopsignal", Some("lxc.signal.stop")),
    ("lxc.syslog", Some("lxc.log.syslog")),
    ("lxc.tty", Some("lxc.tty.max")),
    ("lxc.utsname", Some("lxc.uts.name")),
    ("lxc.limit", Some("lxc.prlimit")),
];

/// Takes an entry when its line is read.
type Sink<'a> = dyn FnMut(Entry, &mut Log) + 'a;

/// Reads a configuration with all that it includes.
pub(super) fn read(source: Source<'_>, reader: &mut Reader<'_>, log: &mut Log, sink: &mut Sink<'_>) {
    Reading { reader, log, sink, stack: Vec::new(), lines: 0, network: None }.file(source);
}

struct Reading<'r, 'f, 's> {
    reader: &'r mut Reader<'f>,
    log: &'r mut Log,
    sink: &'r mut Sink<'s>,
    /// The files that are being read, the outermost first.
    stack: Vec<String>,
    lines: usize,
    /// Number of the network that the last `lxc.network.type` began.
    network: Option<u32>,
}

impl Reading<'_, '_, '_> {
    fn file(&mut self, source: Source<'_>) {
        self.stack.push(source.name.to_owned());
        for (index, line) in source.text.lines().enumerate() {
            let place = Place { file: source.name.to_owned(), line: index + 1 };
            self.lines += 1;
            if self.lines > LINES_MAX {
                self.log.error(&place, format!("the files have more than {LINES_MAX} lines"));
                break;
            }
            self.line(place, line);
        }
        self.stack.pop();
    }

    fn line(&mut self, place: Place, line: &str) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        if !line.starts_with("lxc.") {
            self.log.warn(&place, format!("{line:?} is no key of a container: it is passed over"));
            return;
        }
        let Some((key, value)) = line.split_once('=') else {
            self.log.error(&place, format!("{line:?} is not of the form key = value"));
            return;
        };
        let (key, value) = (key.trim_end(), unquote(value.trim()));
        if value.contains('\0') {
            self.log.error(&place, format!("{key} has a NUL character"));
        } else if key == "lxc.include" {
            self.include(&place, value);
        } else if let Some(key) = self.present_name(&place, key) {
            (self.sink)(Entry { place, key, value: value.to_owned() }, self.log);
        }
    }

    /// The key by the name that it has today; `None` where the setting is gone, which is then told.
    fn present_name(&mut self, place: &Place, key: &str) -> Option<String> {
        let renamed = if let Some(rest) = key.strip_prefix("lxc.network.") {
            self.old_network(rest)
        } else if let Some(rest) = key.strip_prefix("lxc.limit.") {
            format!("lxc.prlimit.{rest}")
        } else {
            match OLD.iter().find(|(old, _)| *old == key) {
                None => return Some(key.to_owned()),
                Some((_, Some(new))) => (*new).to_owned(),
                Some((_, None)) => {
                    self.log.warn(place, format!("{key} is a setting that is gone: it is passed over"));
                    return None;
                }
            }
        };
        self.log.warn(place, format!("{key} is the name of {renamed} before LXC 2.1"));
        Some(renamed)
    }

    /// A key of a network in the old form, with or without a number. Without one `type` begins the next network.
    fn old_network(&mut self, rest: &str) -> String {
        let (number, sub) = match rest.split_once('.') {
            Some((number, sub)) if number.parse::<u32>().is_ok() => (number.to_owned(), sub),
            _ => {
                if rest == "type" {
                    self.network = Some(self.network.map_or(0, |number| number.saturating_add(1)));
                }
                (self.network.unwrap_or(0).to_string(), rest)
            }
        };
        let sub = match sub {
            "ipv4" => "ipv4.address",
            "ipv6" => "ipv6.address",
            other => other,
        };
        format!("lxc.net.{number}.{sub}")
    }

    fn include(&mut self, place: &Place, path: &str) {
        if path.is_empty() {
            return;
        }
        if self.stack.len() >= DEPTH_MAX {
            self.log.error(place, format!("lxc.include: files are included more than {DEPTH_MAX} deep"));
            return;
        }
        match (self.reader)(path) {
            Ok(Found::File(text)) => self.included(place, path, &text),
            Ok(Found::Folder(files)) => {
                for file in files {
                    match (self.reader)(&file) {
                        Ok(Found::File(text)) => self.included(place, &file, &text),
                        Ok(Found::Folder(_)) => {}
                        Err(reason) => self.log.error(place, format!("lxc.include {file}: {reason}")),
                    }
                }
            }
            // A folder that is not there has no files: packages include folders that others may fill.
            Err(reason) if path.ends_with('/') => {
                self.log.warn(place, format!("lxc.include {path}: {reason}: it is passed over"));
            }
            Err(reason) => self.log.error(place, format!("lxc.include {path}: {reason}")),
        }
    }

    fn included(&mut self, place: &Place, path: &str, text: &str) {
        if let Some(at) = self.stack.iter().position(|open| open == path) {
            let cycle = [&self.stack[at..], &[path.to_owned()]].concat().join(" -> ");
            self.log.error(place, format!("lxc.include: the files include each other: {cycle}"));
            return;
        }
        self.file(Source { name: path, text });
    }
}

/// A value without the quotes around it, single or double, if both are there.
fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}
