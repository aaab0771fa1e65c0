//! The forms that values have.

use crate::signal::{Signal, parse_signal};

/// Reads `0` or `1`.
pub(super) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("must be 0 or 1".to_owned()),
    }
}

/// Reads a whole number of any kind.
pub(super) fn parse_number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "must be a whole number in range".to_owned())
}

/// Reads a signal by number or name.
pub(super) fn parse_signal_value(text: &str) -> Result<Signal, String> {
    parse_signal(text).filter(|signal| signal.0 > 0).ok_or_else(|| "is no signal".to_owned())
}

/// Reads a number of bytes such as `4096`, `128KB` or `1 MB`; `auto` is 128 KiB. Units count in 1024.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    /// What LXC takes `auto` for.
    const AUTO: u64 = 128 << 10;
    let wrong = || "must be auto, or a number of bytes with KB, MB or GB or without".to_owned();
    if text == "auto" {
        return Ok(AUTO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// A range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdRange {
    /// Of groups, not of users.
    pub(super) of_groups: bool,
    pub(super) inside: u32,
    pub(super) outside: u32,
    pub(super) count: u32,
}

/// Reads `u 0 100000 65536`: of users or groups, first id inside, first id outside, how many.
pub(super) fn parse_idmap(text: &str) -> Result<IdRange, String> {
    let wrong = || "must be u or g and three numbers: first inside, first outside, how many".to_owned();
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [kind, inside, outside, count] = parts.as_slice() else { return Err(wrong()) };
    let of_groups = match *kind {
        "u" => false,
        "g" => true,
        _ => return Err(wrong()),
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    Ok(IdRange { of_groups, inside: number(inside)?, outside: number(outside)?, count: number(count)? })
}

/// Reads `soft:hard` or one number for both; `None` is unlimited.
pub(super) fn parse_limit(text: &str) -> Result<(Option<u64>, Option<u64>), String> {
    let one = |text: &str| match text.trim() {
        "unlimited" => Ok(None),
        number => number.parse().map(Some).map_err(|_| "must be numbers or unlimited, as SOFT:HARD".to_owned()),
    };
    match text.split_once(':') {
        Some((soft, hard)) => Ok((one(soft)?, one(hard)?)),
        None => one(text).map(|both| (both, both)),
    }
}

/// Reads an offset of a clock such as `-2h` or `500ms`: seconds, and nanoseconds from 0 to 999999999.
pub(super) fn parse_offset(text: &str) -> Result<(i64, u32), String> {
    /// Nanoseconds of a second.
    const SECOND: i128 = 1_000_000_000;
    let wrong = || "must be a number with one of h, m, s, ms, us or ns".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '-' && c != '+').ok_or_else(wrong)?;
    let number: i64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match text[digits..].trim() {
        "h" => 3600 * SECOND,
        "m" => 60 * SECOND,
        "s" => SECOND,
        "ms" => 1_000_000,
        "us" => 1_000,
        "ns" => 1,
        _ => return Err(wrong()),
    };
    let all = i128::from(number) * unit;
    let seconds = i64::try_from(all.div_euclid(SECOND)).map_err(|_| wrong())?;
    Ok((seconds, u32::try_from(all.rem_euclid(SECOND)).map_err(|_| wrong())?))
}

/// A line of fstab(5), as `lxc.mount.entry` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// What is mounted.
    pub source: String,
    /// Where; mostly a path without a slash in front, below the root file system.
    pub target: String,
    /// File system.
    pub kind: String,
    /// Options of the kernel and of the file system.
    pub options: Vec<String>,
    /// Whether a failure is none.
    pub optional: bool,
    /// Whether the source lies in the container.
    pub relative: bool,
    /// What is made where nothing is: `dir` or `file`.
    pub create: Option<String>,
    /// `container`, or the path of a user namespace.
    pub idmap: Option<String>,
}

/// Reads a line of fstab(5) with the options that LXC adds: `optional`, `relative`, `create=dir`, `create=file`, `idmap=`.
///
/// # Errors
/// Fewer than two fields, or another `create=`.
pub fn parse_mount_entry(text: &str) -> Result<MountEntry, String> {
    let mut fields = text.split_ascii_whitespace().map(unescape);
    let (Some(source), Some(target)) = (fields.next(), fields.next()) else {
        return Err("must have a source and a target".to_owned());
    };
    let kind = fields.next().unwrap_or_else(|| "none".to_owned());
    let options = fields.next().unwrap_or_default();
    let mut entry = MountEntry {
        source,
        target,
        kind,
        options: Vec::new(),
        optional: false,
        relative: false,
        create: None,
        idmap: None,
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            None if option == "optional" => entry.optional = true,
            None if option == "relative" => entry.relative = true,
            Some(("create", what @ ("dir" | "file"))) => entry.create = Some(what.to_owned()),
            Some(("create", what)) => return Err(format!("create={what}: dir or file can be made")),
            Some(("idmap", of)) => entry.idmap = Some(of.to_owned()),
            _ => entry.options.push(option.to_owned()),
        }
    }
    Ok(entry)
}

/// Blanks and backslashes in a field stand as three octal digits after a backslash (getmntent(3)).
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let digits = more.get(..3).filter(|digits| digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        let octal = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match octal.filter(|byte| *first == b'\\' && *byte != 0) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Divides a command into words as a shell does, as far as quotes and backslashes go.
pub(super) fn split_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut chars) = (Vec::new(), None::<String>, None, text.chars());
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!((parse_bytes("4096"), parse_bytes("3KB"), parse_bytes("1 gb")), (Ok(4096), Ok(3072), Ok(1 << 30)));
        assert_eq!(parse_bytes("auto"), Ok(131_072));
        for text in ["", "KB", "1TB", "-1", "99999999999999999999", "18446744073709551615KB"] {
            parse_bytes(text).unwrap_err();
        }
        assert_eq!(parse_offset("-2h"), Ok((-7200, 0)));
        assert_eq!(parse_offset("-500ms"), Ok((-1, 500_000_000)));
        assert_eq!(parse_offset("7 s"), Ok((7, 0)));
        for text in ["", "5", "h", "1d", "99999999999999999999s"] {
            parse_offset(text).unwrap_err();
        }
        assert_eq!(parse_limit("1:unlimited"), Ok((Some(1), None)));
        assert_eq!(parse_limit("1024"), Ok((Some(1024), Some(1024))));
        parse_limit("many").unwrap_err();
    }

    #[test]
    fn mounts_have_options_of_lxc() {
        let entry = parse_mount_entry("dev/null proc/kcore none bind,relative,optional,create=file 0 0").unwrap();
        assert!(entry.relative && entry.optional);
        assert_eq!((entry.create.as_deref(), entry.options), (Some("file"), vec!["bind".to_owned()]));
        let entry = parse_mount_entry("/a\\040b c none rbind,idmap=container").unwrap();
        assert_eq!((entry.source.as_str(), entry.idmap.as_deref()), ("/a b", Some("container")));
        assert_eq!(parse_mount_entry("a\\04 b").unwrap().source, "a\\04");
        parse_mount_entry("/a").unwrap_err();
        parse_mount_entry("/a b none create=pipe 0 0").unwrap_err();
    }

    #[test]
    fn words_are_those_of_a_shell() {
        assert_eq!(split_words(r#"/sbin/init  a "b c" d\ e '' x"y"z"#), ["/sbin/init", "a", "b c", "d e", "", "xyz"]);
        assert!(split_words("  ").is_empty());
    }

    #[test]
    fn ids_are_ranges() {
        let range = parse_idmap("g 0 100000 65536").unwrap();
        assert!(range.of_groups && range.outside == 100_000);
        for text in ["", "u 0 1", "b 0 1 2", "u 0 1 2 3", "u 0 -1 2"] {
            parse_idmap(text).unwrap_err();
        }
    }
}
