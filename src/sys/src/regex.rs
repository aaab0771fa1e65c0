//! POSIX extended regular expressions, by the C library.

use std::ffi::CString;
use std::mem::MaybeUninit;

use rustix::io::Errno;

use crate::error::{Context, Error, Result};

/// A compiled extended regular expression (regex(7)).
pub struct Regex {
    // Boxed: regexec(3) may keep pointers into what regcomp(3) filled, so it must not move.
    compiled: Box<libc::regex_t>,
}

impl std::fmt::Debug for Regex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Regex")
    }
}

impl Regex {
    /// `regcomp(3)` with REG_EXTENDED and REG_NOSUB.
    ///
    /// # Errors
    /// EINVAL with the reason of the C library where the expression is not one.
    pub fn new(pattern: &str) -> Result<Regex> {
        let text = CString::new(pattern).map_err(|_| Errno::INVAL).call(|| format!("regcomp({pattern:?})"))?;
        let mut compiled = Box::new(MaybeUninit::<libc::regex_t>::uninit());
        // SAFETY: regcomp writes a regex_t to memory of its size that we own, and reads a string that ends in NUL; both
        // outlive the call.
        let code = unsafe { libc::regcomp(compiled.as_mut_ptr(), text.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) };
        if code != 0 {
            let reason = reason(code, compiled.as_ptr());
            return Err(Error::new(format!("regcomp({pattern:?}): {reason}"), Errno::INVAL));
        }
        // SAFETY: regcomp returned 0, so it has filled the whole of it.
        Ok(Regex { compiled: unsafe { compiled.assume_init() } })
    }

    /// `regexec(3)`: whether a part of `text` matches. One with a NUL inside never does.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        // SAFETY: the expression was compiled by regcomp and not freed; the string ends in NUL; with REG_NOSUB and a
        // count of zero no match is written.
        unsafe { libc::regexec(&*self.compiled, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: it was filled by regcomp and nobody uses it after this.
        unsafe { libc::regfree(&mut *self.compiled) }
    }
}

/// What regerror(3) says about a failed regcomp.
fn reason(code: i32, compiled: *const libc::regex_t) -> String {
    let mut text = [0_u8; 128];
    // SAFETY: regerror reads the code that regcomp returned with the structure that it got, and writes at most as many
    // bytes as there are.
    let length = unsafe { libc::regerror(code, compiled, text.as_mut_ptr().cast(), text.len()) };
    let end = length.saturating_sub(1).min(text.len() - 1);
    String::from_utf8_lossy(&text[..end]).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_a_part_unless_anchored() {
        let regex = Regex::new("^web-[0-9]+$|db").unwrap();
        assert!(regex.is_match("web-12"));
        assert!(!regex.is_match("web-"));
        assert!(!regex.is_match("xweb-1"));
        assert!(regex.is_match("the-db-1"));
        assert!(!regex.is_match("d\0b"));
    }

    #[test]
    fn expressions_fit_what_they_say() {
        let fits = |pattern: &str, text: &str| Regex::new(pattern).unwrap().is_match(text);
        for (pattern, text) in [
            ("web", "a-web1"),
            ("^web[0-9]+$", "web12"),
            ("w.*1", "xweb1"),
            ("a|b", "cb"),
            ("^(ab)*c$", "ababc"),
            ("[^a]", "b"),
            ("a\\.b", "a.b"),
            ("", "anything"),
            ("x?y", "y"),
            ("^(web.*)$", "web1"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("^web$", "web1"), ("[a-c]", "d"), ("a+", "b"), ("a\\.b", "axb"), ("(a|b)c", "ab"), ("^(we)$", "web")]
        {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
        for pattern in ["[a", "(a", "\\"] {
            assert!(Regex::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn refuses_what_is_no_expression() {
        let error = Regex::new("a(").unwrap_err();
        assert!(error.call().starts_with("regcomp(\"a(\"): "), "{error}");
        assert!(error.is(Errno::INVAL));
        assert!(Regex::new("a\0b").is_err());
    }
}
