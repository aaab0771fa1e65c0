//! What a definition may say, beyond its form. All of this is pure.

use std::path::{Component, Path};

use runtime_spec::signal::parse_signal;

/// Longest host name: `__NEW_UTS_LEN` of the kernel (include/uapi/linux/utsname.h).
pub const HOSTNAME_MAX: usize = 64;

/// Smallest page of the machines that Linux runs on: with less memory no process begins.
const PAGE: u64 = 4096;

/// Most seconds to wait for an end: a year.
pub const WAIT_MAX: u64 = 365 * 24 * 3600;

/// Checks a signal: a number from 1 to 64, or a name with or without `SIG`, also `RTMIN+N` and `RTMAX-N`.
///
/// # Errors
/// It is none.
pub fn validate_signal(text: &str) -> Result<(), String> {
    match parse_signal(text) {
        // 0 asks nothing of anybody.
        Some(signal) if signal.0 > 0 => Ok(()),
        _ => Err(format!("{text:?} is no signal: want a number or a name such as TERM")),
    }
}

/// Checks the name of a host: 1 to 64 letters, digits, `-` and `.`.
///
/// # Errors
/// What is wrong with it.
pub fn validate_hostname(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > HOSTNAME_MAX {
        return Err(format!("host name {text:?} must have 1 to {HOSTNAME_MAX} characters"));
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.') {
        return Err(format!("host name {text:?} must have only letters, digits, - and ."));
    }
    Ok(())
}

/// Checks a place inside a container: an absolute path below `/` without `..`.
///
/// # Errors
/// What is wrong with it.
pub fn validate_inside(path: &str) -> Result<(), String> {
    let parts: Vec<Component<'_>> = Path::new(path).components().collect();
    if parts.first() != Some(&Component::RootDir) {
        return Err(format!("{path:?} must be an absolute path"));
    }
    if parts.len() < 2 || parts.contains(&Component::ParentDir) {
        return Err(format!("{path:?} must lie below / and have no \"..\""));
    }
    Ok(())
}

/// Checks a limit of memory in bytes: at least a page.
///
/// # Errors
/// It is less.
pub fn validate_memory(bytes: u64) -> Result<u64, String> {
    if bytes < PAGE { Err(format!("{bytes} bytes are less than a page of {PAGE}")) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_numbers_and_names() {
        for text in ["TERM", "SIGTERM", "sigusr1", "9", "64", "RTMIN", "SIGRTMIN+3", "RTMAX-1", "WINCH"] {
            validate_signal(text).unwrap();
        }
        for text in ["", "0", "65", "-9", "+9", "TREM", "SIG", "RTMIN-1", "RTMIN+31", "RTMAX+", "9 "] {
            validate_signal(text).unwrap_err();
        }
    }

    #[test]
    fn hosts_have_names_that_the_kernel_takes() {
        for text in ["web1", "web1.example.org", &"x".repeat(64)] {
            validate_hostname(text).unwrap();
        }
        for text in ["", "a b", "a_b", "a\nb", "ä", &"x".repeat(65)] {
            validate_hostname(text).unwrap_err();
        }
    }

    #[test]
    fn places_lie_below_the_root() {
        for path in ["/a", "/a/b/", "/a..b"] {
            validate_inside(path).unwrap();
        }
        for path in ["/", "//", "/.", "/..", "/a/../..", "a", ""] {
            validate_inside(path).unwrap_err();
        }
    }

    #[test]
    fn less_than_a_page_is_no_limit_of_memory() {
        assert_eq!(validate_memory(4096), Ok(4096));
        validate_memory(4095).unwrap_err();
    }
}
