//! The one error type: which call failed, on what, and why.

use std::fmt;

use rustix::io::Errno;

/// Result of a kernel call.
pub type Result<T> = std::result::Result<T, Error>;

/// A kernel call that failed.
///
/// Prints as `openat("/run/x"): no such file or directory (ENOENT)`: the call with its arguments, the text that callers
/// of container runtimes match, and the name that people search for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    call: String,
    errno: Errno,
}

impl Error {
    /// Describes a failed call, such as `openat("/run/x")`.
    pub fn new(call: impl Into<String>, errno: Errno) -> Error {
        Error { call: call.into(), errno }
    }

    /// Why it failed.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The call and its arguments.
    #[must_use]
    pub fn call(&self) -> &str {
        &self.call
    }

    /// Whether it failed for this reason.
    #[must_use]
    pub fn is(&self, errno: Errno) -> bool {
        self.errno == errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, Reason(self.errno))
    }
}

impl std::error::Error for Error {}

/// An errno that prints as `operation not permitted (EPERM)`.
#[derive(Debug, Clone, Copy)]
pub struct Reason(pub Errno);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.raw_os_error();
        match NAMES.iter().find(|(n, _, _)| *n == number) {
            Some((_, name, text)) => write!(f, "{text} ({name})"),
            None => write!(f, "errno {number}"),
        }
    }
}

/// Adds the call to a bare errno. The text is made only on failure.
pub trait Context<T> {
    /// Names the call.
    ///
    /// # Errors
    /// The same failure, with the call.
    fn call(self, call: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, Errno> {
    fn call(self, call: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error { call: call(), errno })
    }
}

/// Number (asm-generic, the same on all architectures that we build for), name, and the C library's text in lower case.
static NAMES: &[(i32, &str, &str)] = &[
    (1, "EPERM", "operation not permitted"),
    (2, "ENOENT", "no such file or directory"),
    (3, "ESRCH", "no such process"),
    (4, "EINTR", "interrupted system call"),
    (5, "EIO", "input/output error"),
    (6, "ENXIO", "no such device or address"),
    (7, "E2BIG", "argument list too long"),
    (8, "ENOEXEC", "exec format error"),
    (9, "EBADF", "bad file descriptor"),
    (10, "ECHILD", "no child processes"),
    (11, "EAGAIN", "resource temporarily unavailable"),
    (12, "ENOMEM", "cannot allocate memory"),
    (13, "EACCES", "permission denied"),
    (14, "EFAULT", "bad address"),
    (15, "ENOTBLK", "block device required"),
    (16, "EBUSY", "device or resource busy"),
    (17, "EEXIST", "file exists"),
    (18, "EXDEV", "invalid cross-device link"),
    (19, "ENODEV", "no such device"),
    (20, "ENOTDIR", "not a directory"),
    (21, "EISDIR", "is a directory"),
    (22, "EINVAL", "invalid argument"),
    (23, "ENFILE", "too many open files in system"),
    (24, "EMFILE", "too many open files"),
    (25, "ENOTTY", "inappropriate ioctl for device"),
    (26, "ETXTBSY", "text file busy"),
    (27, "EFBIG", "file too large"),
    (28, "ENOSPC", "no space left on device"),
    (29, "ESPIPE", "illegal seek"),
    (30, "EROFS", "read-only file system"),
    (31, "EMLINK", "too many links"),
    (32, "EPIPE", "broken pipe"),
    (33, "EDOM", "numerical argument out of domain"),
    (34, "ERANGE", "numerical result out of range"),
    (35, "EDEADLK", "resource deadlock avoided"),
    (36, "ENAMETOOLONG", "file name too long"),
    (38, "ENOSYS", "function not implemented"),
    (39, "ENOTEMPTY", "directory not empty"),
    (40, "ELOOP", "too many levels of symbolic links"),
    (61, "ENODATA", "no data available"),
    (62, "ETIME", "timer expired"),
    (71, "EPROTO", "protocol error"),
    (75, "EOVERFLOW", "value too large for defined data type"),
    (87, "EUSERS", "too many users"),
    (88, "ENOTSOCK", "socket operation on non-socket"),
    (90, "EMSGSIZE", "message too long"),
    (91, "EPROTOTYPE", "protocol wrong type for socket"),
    (95, "EOPNOTSUPP", "operation not supported"),
    (97, "EAFNOSUPPORT", "address family not supported by protocol"),
    (98, "EADDRINUSE", "address already in use"),
    (99, "EADDRNOTAVAIL", "cannot assign requested address"),
    (100, "ENETDOWN", "network is down"),
    (101, "ENETUNREACH", "network is unreachable"),
    (104, "ECONNRESET", "connection reset by peer"),
    (105, "ENOBUFS", "no buffer space available"),
    (107, "ENOTCONN", "transport endpoint is not connected"),
    (110, "ETIMEDOUT", "connection timed out"),
    (111, "ECONNREFUSED", "connection refused"),
    (116, "ESTALE", "stale file handle"),
    (122, "EDQUOT", "disk quota exceeded"),
    (126, "ENOKEY", "required key not available"),
    (127, "EKEYEXPIRED", "key has expired"),
    (128, "EKEYREVOKED", "key has been revoked"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_call_text_and_name() {
        let error = Error::new("fsopen(\"proc\")", Errno::PERM);
        assert_eq!(error.to_string(), "fsopen(\"proc\"): operation not permitted (EPERM)");
    }

    #[test]
    fn prints_the_number_of_an_unknown_errno() {
        assert_eq!(Reason(Errno::from_raw_os_error(511)).to_string(), "errno 511");
    }
}
