//! Tells what an archive is by its first entry: an image's layout, or a root file system.

use std::io::{self, Cursor, Read};

use crate::digest::parse_hex;
use crate::tar::Reader;

/// What lies in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// It may be a layout: its documents have to be looked for.
    Layout,
    /// A root file system.
    Tree,
}

/// Bytes that are read for it: room for extended headers before the first entry.
const HEAD: u64 = 2 << 20;

/// Reads the beginning. Returns it with the answer, to be read again in front of the rest.
pub(crate) fn probe<R: Read>(source: &mut R) -> io::Result<(Content, Vec<u8>)> {
    let mut head = Vec::new();
    let mut content = None;
    // In growing steps: a pipe should not be waited for when the first block says enough.
    let mut step = 4096;
    while content.is_none() {
        let before = head.len() as u64;
        if source.by_ref().take(step).read_to_end(&mut head)? == 0 || before >= HEAD {
            break;
        }
        content = first_entry(&head);
        step *= 2;
    }
    Ok((content.unwrap_or(Content::Tree), head))
}

/// The answer by the first entry that is more than the root; none where the bytes end before it.
fn first_entry(head: &[u8]) -> Option<Content> {
    let mut reader = Reader::new(Cursor::new(head));
    loop {
        match reader.next() {
            Ok(Some(entry)) if entry.path.iter().all(|byte| b"./".contains(byte)) => {}
            Ok(Some(entry)) => return Some(parse_name(&entry.path)),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Names that layouts begin with. A root file system has none of them at its top.
fn parse_name(path: &[u8]) -> Content {
    let Ok(path) = std::str::from_utf8(path) else { return Content::Tree };
    let top = path.trim_start_matches("./").split('/').next().unwrap_or_default();
    let name = top.strip_suffix(".json").or_else(|| top.strip_suffix(".tar")).unwrap_or(top);
    let known = matches!(top, "blobs" | "oci-layout" | "index.json" | "manifest.json" | "repositories");
    if known || parse_hex(name).is_some() { Content::Layout } else { Content::Tree }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Entry, Kind, Writer};

    fn archive(paths: &[&str]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for path in paths {
            let kind = if path.ends_with('/') { Kind::Folder } else { Kind::File { map: None } };
            let entry = Entry { path: (*path).into(), kind, ..Entry::default() };
            writer.append(&entry, &mut io::empty()).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn the_first_entry_tells() {
        let check = |paths: &[&str], expected| {
            let bytes = archive(paths);
            let (content, head) = probe(&mut bytes.as_slice()).unwrap();
            assert_eq!(content, expected, "{paths:?}");
            assert!(bytes.starts_with(&head));
        };
        let hex = "0a".repeat(32);
        check(&[&format!("{hex}/"), &format!("{hex}/VERSION")], Content::Layout);
        check(&[&format!("{hex}.tar")], Content::Layout);
        check(&["./", "./oci-layout"], Content::Layout);
        check(&["blobs/", "blobs/sha256/"], Content::Layout);
        check(&["./", "./bin/"], Content::Tree);
        check(&[".dockerenv"], Content::Tree);
        check(&["etc/oci-layout"], Content::Tree);
        check(&[&format!("{}/x", "d".repeat(200))], Content::Tree);
        check(&[], Content::Tree);
    }
}
