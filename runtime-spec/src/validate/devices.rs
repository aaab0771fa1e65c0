//! Device nodes.

use std::collections::BTreeSet;

use super::{check_absolute, quote, text};
use crate::finding::{Log, Path};
use crate::model::{Device, DeviceKind};
use crate::oci;

const SECTION: &str = "config-linux.md, devices";

/// Highest numbers of a device (MINORBITS is 20 in include/linux/kdev_t.h; 12 bits are left for the major number).
const MAJOR_MAX: i64 = 0xfff;
const MINOR_MAX: i64 = 0xf_ffff;

/// Judges and lowers the list.
pub(super) fn lower(list: &[oci::Device], at: &Path<'_>, log: &mut Log) -> Vec<Device> {
    let mut paths = BTreeSet::new();
    let mut nodes = BTreeSet::new();
    let mut result = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let at = at.item(index);
        let Some(device) = lower_device(entry, &at, log) else { continue };
        if !paths.insert(entry.path.as_deref()) {
            log.warn(&at.key("path"), SECTION, format_args!("{} stands in the list twice", quote(&device.path)));
        }
        if device.kind != DeviceKind::Fifo && !nodes.insert((device.kind as u8, device.major, device.minor)) {
            log.warn(&at, SECTION, format_args!("is device {}:{} once more", device.major, device.minor));
        }
        result.push(device);
    }
    result
}

fn lower_device(entry: &oci::Device, at: &Path<'_>, log: &mut Log) -> Option<Device> {
    /// `u` is a character device without buffer, which Linux does not tell apart.
    const KINDS: [(&str, DeviceKind); 4] =
        [("c", DeviceKind::Char), ("u", DeviceKind::Char), ("b", DeviceKind::Block), ("p", DeviceKind::Fifo)];
    let path = text(&entry.path);
    match path {
        Some(path) => check_absolute(path, &at.key("path"), SECTION, log),
        None => log.error(&at.key("path"), SECTION, "is required"),
    }
    let Some(kind) = text(&entry.kind) else {
        log.error(&at.key("type"), SECTION, "is required");
        return None;
    };
    let kind = super::lookup(&KINDS, kind, &at.key("type"), SECTION, log)?;
    let fifo = kind == DeviceKind::Fifo;
    let mut number = |value: Option<i64>, name: &str, max: i64| match value {
        _ if fifo => 0,
        Some(value) => number(value, max, &at.key(name), log),
        None => {
            log.error(&at.key(name), SECTION, "is required unless the type is \"p\"");
            0
        }
    };
    let (major, minor) = (number(entry.major, "major", MAJOR_MAX), number(entry.minor, "minor", MINOR_MAX));
    Some(Device {
        path: path.unwrap_or_default().to_owned(),
        kind,
        major,
        minor,
        mode: entry.file_mode.map(|mode| file_mode(mode, &at.key("fileMode"), log)),
        uid: super::process::id(entry.uid, &at.key("uid"), SECTION, log),
        gid: super::process::id(entry.gid, &at.key("gid"), SECTION, log),
    })
}

fn number(value: i64, max: i64, at: &Path<'_>, log: &mut Log) -> u32 {
    match u32::try_from(value) {
        Ok(number) if value <= max => number,
        _ => {
            log.error(at, SECTION, format_args!("must be from 0 to {max}, not {value}"));
            0
        }
    }
}

/// Permission bits. The bits of the file type are dropped silently: callers copy the whole `st_mode` of a host node.
fn file_mode(mode: u32, at: &Path<'_>, log: &mut Log) -> u32 {
    const S_IFMT: u32 = 0o170_000;
    const PERMISSIONS: u32 = 0o7777;
    if mode & !S_IFMT & !PERMISSIONS != 0 {
        log.warn(
            at,
            SECTION,
            format_args!("{mode} has bits that are not permissions; {:o} is used", mode & PERMISSIONS),
        );
    }
    mode & PERMISSIONS
}
