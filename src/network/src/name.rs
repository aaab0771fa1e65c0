//! Names of network devices, by the kernel's rules.

/// Most bytes that a name may have: IFNAMSIZ without the NUL.
pub const NAME_MAX: usize = 15;

/// Why a name cannot be that of a network device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing there.
    #[error("a name must not be empty")]
    Empty,
    /// More than [`NAME_MAX`] bytes.
    #[error("a name has at most 15 bytes")]
    Long,
    /// `.` or `..`, which sysfs could not show.
    #[error("a name must not be . or ..")]
    Dots,
    /// A byte that the kernel refuses.
    #[error("a name must not contain a slash, a colon, white space or a NUL")]
    Byte,
    /// A percent sign where it means nothing.
    #[error("a name must not contain % except, where a template is allowed, one %d")]
    Percent,
    /// A template whose numbers are used up.
    #[error("no number is left for this template")]
    Exhausted,
}

/// Checks a name by the rules of the kernel's `dev_valid_name`, and that it is no template.
///
/// # Errors
/// [`NameError`], where the kernel would say EINVAL.
pub fn validate_name(name: &str) -> Result<(), NameError> {
    validate_bytes(name)?;
    if name.contains('%') { Err(NameError::Percent) } else { Ok(()) }
}

/// Checks a name that may be a template: one with a `%d` that a free number takes the place of.
///
/// # Errors
/// [`NameError`], where the kernel would say EINVAL.
pub fn validate_template(name: &str) -> Result<(), NameError> {
    validate_bytes(name)?;
    match name.split_once('%') {
        Some((_, rest)) if !rest.starts_with('d') || rest.contains('%') => Err(NameError::Percent),
        _ => Ok(()),
    }
}

fn validate_bytes(name: &str) -> Result<(), NameError> {
    // The kernel's isspace works on Latin-1: 0xa0 is white space to it, also inside a UTF-8 sequence.
    let refused = |byte: u8| matches!(byte, 0 | b'/' | b':' | b' ' | b'\t'..=b'\r' | 0xa0);
    match name {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots),
        _ if name.len() > NAME_MAX => Err(NameError::Long),
        _ if name.bytes().any(refused) => Err(NameError::Byte),
        _ => Ok(()),
    }
}

/// Replaces the `%d` of a template by the lowest number whose name is not taken; a name without `%d` stays as it is.
///
/// # Errors
/// [`NameError::Exhausted`] where no number fits into 15 bytes, which the kernel also bounds at 32,768.
pub(crate) fn resolve_template(template: &str, taken: impl Fn(&str) -> bool) -> Result<String, NameError> {
    let Some((before, after)) = template.split_once("%d") else {
        return Ok(template.to_owned());
    };
    (0..32_768)
        .map(|number| format!("{before}{number}{after}"))
        .take_while(|name| name.len() <= NAME_MAX)
        .find(|name| !taken(name))
        .ok_or(NameError::Exhausted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Result<(), NameError>) {
        assert_eq!(validate_name(name), expected, "{name:?}");
    }

    #[test]
    fn names() {
        check("eth0", Ok(()));
        check("a", Ok(()));
        check("...", Ok(()));
        check("123456789012345", Ok(()));
        check("veth-web1@x", Ok(()));
        check("", Err(NameError::Empty));
        check(".", Err(NameError::Dots));
        check("..", Err(NameError::Dots));
        check("1234567890123456", Err(NameError::Long));
        check("a/b", Err(NameError::Byte));
        check("a:b", Err(NameError::Byte));
        check("a b", Err(NameError::Byte));
        check("a\tb", Err(NameError::Byte));
        check("a\u{b}b", Err(NameError::Byte));
        check("a\0b", Err(NameError::Byte));
        check("voil\u{e0}", Err(NameError::Byte));
        check("caf\u{e9}", Ok(()));
        check("eth%d", Err(NameError::Percent));
    }

    #[test]
    fn templates() {
        assert_eq!(validate_template("eth%d"), Ok(()));
        assert_eq!(validate_template("eth0"), Ok(()));
        assert_eq!(validate_template("eth%"), Err(NameError::Percent));
        assert_eq!(validate_template("eth%s"), Err(NameError::Percent));
        assert_eq!(validate_template("%d%d"), Err(NameError::Percent));
    }

    #[test]
    fn the_lowest_free_number_takes_the_place() {
        assert_eq!(resolve_template("eth%d", |name| name == "eth0" || name == "eth2"), Ok("eth1".to_owned()));
        assert_eq!(resolve_template("net%dx", |_| false), Ok("net0x".to_owned()));
        assert_eq!(resolve_template("eth7", |_| true), Ok("eth7".to_owned()));
        assert_eq!(resolve_template("12345678901234%d", |name| name.len() == 15), Err(NameError::Exhausted));
    }
}
