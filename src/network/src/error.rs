//! What can go wrong with a link, and how it is said.

use sys::Errno;

/// A link, address or route that could not be looked at or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A socket or namespace call failed.
    #[error(transparent)]
    Call(#[from] sys::Error),
    /// The kernel refused a request.
    #[error("{operation}: {}{}", sys::error::Reason(*errno), explained(explanation.as_deref()))]
    Refused {
        /// What was asked for, with the name of the link.
        operation: String,
        /// Why not.
        errno: Errno,
        /// The kernel's own words, where it has any for this case.
        explanation: Option<String>,
    },
    /// The kernel's answer could not be read.
    #[error("{operation}: the kernel's answer is not understood")]
    Malformed {
        /// What was asked for.
        operation: String,
    },
    /// The table changed during each of several attempts to read it.
    #[error("{operation}: the table keeps changing while it is read")]
    Changing {
        /// What was asked for.
        operation: String,
    },
    /// A network device that should exist does not.
    #[error("no network device {name:?} in {place}: no such device (ENODEV)")]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        place: Place,
    },
    /// A name is taken.
    #[error("a network device {name:?} is already in {place}: file exists (EEXIST)")]
    Taken {
        /// The name.
        name: String,
        /// Where it is taken.
        place: Place,
    },
    /// The kernel knows no such kind of link.
    #[error("this kernel has no network devices of kind {kind:?}: operation not supported (EOPNOTSUPP)")]
    NoKind {
        /// The kind, as the kernel would name it.
        kind: String,
    },
    /// The kernel has no such part of traffic control.
    #[error("this kernel has no {what}, which the limit of {name:?} needs: no such file or directory (ENOENT)")]
    NoTrafficControl {
        /// The scheduler, filter or action.
        what: &'static str,
        /// The link.
        name: String,
    },
    /// A record that is not that of the link.
    #[error("the record of network device {name:?} is that of a link of another kind")]
    Record {
        /// Its name in the container.
        name: String,
    },
    /// Something that is to be a bridge is another link.
    #[error("network device {name:?} is no bridge")]
    NoBridge {
        /// Its name.
        name: String,
    },
    /// No name fits.
    #[error("network device name {name:?}")]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        #[source]
        reason: crate::name::NameError,
    },
    /// A step failed, and so did taking back the steps before it.
    #[error("{first}; taking it back failed too: {undo}")]
    Undo {
        /// What failed first.
        first: Box<Error>,
        /// What failed when taking it back.
        undo: Box<Error>,
    },
}

impl Error {
    /// The errno behind it, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Call(error) => Some(error.errno()),
            Error::Refused { errno, .. } => Some(*errno),
            Error::Missing { .. } => Some(Errno::NODEV),
            Error::Taken { .. } => Some(Errno::EXIST),
            Error::Undo { first, .. } => first.errno(),
            Error::NoKind { .. } => Some(Errno::OPNOTSUPP),
            Error::NoTrafficControl { .. } => Some(Errno::NOENT),
            Error::Malformed { .. } | Error::Changing { .. } | Error::Name { .. } => None,
            Error::NoBridge { .. } | Error::Record { .. } => None,
        }
    }

    /// Joins a failure with that of taking back what was done before it.
    pub(crate) fn after_undo<T>(self, undo: Result<T, Error>) -> Error {
        match undo {
            Ok(_) => self,
            Err(undo) => Error::Undo { first: Box::new(self), undo: Box::new(undo) },
        }
    }
}

/// A network namespace, as errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The network namespace of the caller.
    Host,
    /// The network namespace that the caller gave.
    Container,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::Host => "the host's network namespace",
            Place::Container => "the container's network namespace",
        })
    }
}

fn explained(explanation: Option<&str>) -> String {
    explanation.map(|text| format!(" (kernel: {text})")).unwrap_or_default()
}
