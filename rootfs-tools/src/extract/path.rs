//! Names of entries as an archive has them, judged before any call is made with them.

use crate::limits::{LimitError, NAME_MAX, PATH_MAX};

use super::Refusal;

/// The folders that an entry lies in and its own name, from the root. Empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryPath<'a>(pub(super) Vec<&'a [u8]>);

impl<'a> EntryPath<'a> {
    /// The folders, and the last name; none for the root.
    pub(super) fn split(&self) -> Option<(&[&'a [u8]], &'a [u8])> {
        self.0.split_last().map(|(name, folders)| (folders, *name))
    }
}

/// What the last name says of the layers below.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark<'a> {
    /// Nothing: it is an entry.
    Entry,
    /// The entry with this name in the same folder is not there.
    Gone(&'a [u8]),
    /// What lower layers have in the folder is not there.
    Opaque,
    /// A note of aufs to itself, which is no part of the tree.
    Private,
}

/// Splits a name. A leading `/` means the root, as each archive's root is its own; `.` and empty parts are left out.
///
/// # Errors
/// A part `..`, a NUL, or a part, a depth or a whole that is longer than what is allowed.
pub(super) fn parse_path(path: &[u8], depth: usize) -> Result<EntryPath<'_>, Refusal> {
    if path.contains(&0) {
        return Err(Refusal::Nul);
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(Refusal::DotDot);
    }
    if parts.iter().any(|part| part.len() > NAME_MAX) {
        return Err(LimitError::Name(NAME_MAX).into());
    }
    if parts.iter().map(|part| part.len() + 1).sum::<usize>() > PATH_MAX {
        return Err(LimitError::Name(PATH_MAX).into());
    }
    if parts.len() > depth + 1 {
        return Err(LimitError::Depth(depth).into());
    }
    Ok(EntryPath(parts))
}

/// Reads the marks of OCI image-spec 1.1, layer.md, "Whiteouts".
///
/// # Errors
/// A mark for a name that no entry can have, or a mark as a folder of others.
pub(super) fn parse_mark<'a>(path: &EntryPath<'a>) -> Result<Mark<'a>, Refusal> {
    const MARK: &[u8] = b".wh.";
    const PRIVATE: &[u8] = b".wh..wh.";
    let Some((folders, name)) = path.split() else { return Ok(Mark::Entry) };
    if folders.iter().any(|folder| folder.starts_with(PRIVATE)) {
        return Ok(Mark::Private);
    }
    if folders.iter().any(|folder| folder.starts_with(MARK)) {
        return Err(Refusal::Mark);
    }
    if name == b".wh..wh..opq" {
        return Ok(Mark::Opaque);
    }
    if name.starts_with(PRIVATE) {
        return Ok(Mark::Private);
    }
    match name.strip_prefix(MARK) {
        None => Ok(Mark::Entry),
        Some(b"" | b"." | b"..") => Err(Refusal::Mark),
        Some(gone) => Ok(Mark::Gone(gone)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Result<Vec<String>, Refusal> {
        let parsed = parse_path(path.as_bytes(), 3)?;
        Ok(parsed.0.iter().map(|part| String::from_utf8(part.to_vec()).unwrap()).collect())
    }

    #[test]
    fn a_path_is_below_its_own_root() {
        let check = |path, expected: &[&str]| assert_eq!(parts(path).unwrap(), expected, "{path}");
        check("a", &["a"]);
        check("./a/b/", &["a", "b"]);
        check("/etc//x/./y", &["etc", "x", "y"]);
        check("", &[]);
        check("./", &[]);
        check("/", &[]);
        check("a/...", &["a", "..."]);
        check("a/b/c/d", &["a", "b", "c", "d"]);
    }

    #[test]
    fn what_leads_out_or_too_far_is_refused() {
        let check = |path: &str, expected: Refusal| assert_eq!(parts(path).unwrap_err(), expected, "{path}");
        check("..", Refusal::DotDot);
        check("a/../b", Refusal::DotDot);
        check("a/..", Refusal::DotDot);
        check("/../etc", Refusal::DotDot);
        check("a\0b", Refusal::Nul);
        check("a/b/c/d/e", LimitError::Depth(3).into());
        check(&"x".repeat(256), LimitError::Name(255).into());
        let deep = "xxxx/".repeat(1000);
        assert_eq!(parse_path(deep.as_bytes(), 2000), Err(LimitError::Name(4095).into()));
    }

    #[test]
    fn marks_are_told_from_entries() {
        let check = |path: &str, expected| {
            let path = parse_path(path.as_bytes(), 9).unwrap();
            assert_eq!(parse_mark(&path), expected, "{path:?}");
        };
        check("a/b", Ok(Mark::Entry));
        check("", Ok(Mark::Entry));
        check("a/.wh.b", Ok(Mark::Gone(b"b")));
        check(".wh.b", Ok(Mark::Gone(b"b")));
        check("a/.wh..b", Ok(Mark::Gone(b".b")));
        check("a/.wh..wh..opq", Ok(Mark::Opaque));
        check(".wh..wh.aufs", Ok(Mark::Private));
        check(".wh..wh.plnk/12.34", Ok(Mark::Private));
        check("a/.wh.", Err(Refusal::Mark));
        check("a/.wh..", Err(Refusal::Mark));
        check("a/.wh...", Err(Refusal::Mark));
        check(".wh.a/b", Err(Refusal::Mark));
        check("a/.whx", Ok(Mark::Entry));
    }
}
