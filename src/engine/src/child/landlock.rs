//! Landlock rules: made while root of the container can still open every path, enforced right before the filter.

use std::os::fd::AsFd;

use runtime_spec::landlock::{Landlock, PathRule};
use sys::fs::{FileType, OFlags};
use sys::landlock::Handled;

use super::Child;
use crate::error::{Error, Result};

impl Child<'_> {
    pub(super) fn make_landlock_ruleset(&mut self, rules: &Landlock) -> Result<()> {
        let ruleset = sys::landlock::create_ruleset(Handled {
            file_system: rules.file_system.mask,
            network: rules.network.mask,
            scoped: rules.scoped.mask,
        })?;
        let root = sys::fs::open_dir("/")?;
        for rule in &rules.paths {
            allow_paths(ruleset.as_fd(), root.as_fd(), rule)?;
        }
        for rule in &rules.ports {
            for port in &rule.ports {
                sys::landlock::allow_port(ruleset.as_fd(), *port, rule.allowed.mask)?;
            }
        }
        self.progress.landlock = Some(ruleset);
        Ok(())
    }

    pub(super) fn restrict_by_landlock(&mut self) -> Result<()> {
        match self.progress.landlock.take() {
            Some(ruleset) => Ok(sys::landlock::restrict_self(ruleset.as_fd())?),
            None => Err(sys::Error::new("landlock_restrict_self without a rule set", sys::Errno::BADF).into()),
        }
    }
}

/// Links are followed inside the root, magic ones are not: a link of the image leads to nothing but files of the container.
fn allow_paths(ruleset: std::os::fd::BorrowedFd<'_>, root: std::os::fd::BorrowedFd<'_>, rule: &PathRule) -> Result<()> {
    for path in &rule.paths {
        let file = sys::fs::open_in_root(root, path, OFlags::PATH)?;
        let is_folder = sys::fs::file_type(&sys::fs::stat(file.as_fd())?) == FileType::Directory;
        let allowed = if is_folder { rule.allowed } else { rule.allowed.of_a_file() };
        if allowed.is_empty() {
            let names = rule.allowed.names().collect::<Vec<_>>().join(", ");
            return Err(Error::Unsupported(format!("{path} is no folder, and a file has no right of {names}")));
        }
        sys::landlock::allow_beneath(ruleset, file.as_fd(), allowed.mask)?;
    }
    Ok(())
}
