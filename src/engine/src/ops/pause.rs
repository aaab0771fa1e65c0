//! `pause` and `resume`.

use runtime_spec::state::Status;

use super::Context;
use crate::error::{Error, Result};

/// Freezes all processes of a container.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Paused`] when it is frozen already, [`Error::Unsupported`] without a freezer.
pub fn pause(context: &Context<'_>, id: &str) -> Result<()> {
    let (_, folder) = context.find(id)?;
    let _lock = folder.lock()?;
    let record = folder.read_record()?;
    match folder.status(&record, &context.proc)? {
        Status::Running | Status::Created => {}
        Status::Paused => return Err(Error::Paused),
        Status::Stopped | Status::Creating => return Err(Error::NotRunning),
    }
    if record.groups.is_empty() {
        return Err(Error::Unsupported("cannot pause: the container has no cgroup".to_owned()));
    }
    Ok(cgroup::Group::open(&record.groups)?.freeze(cgroup::group::KILL_BOUND, &context.proc)?)
}

/// Thaws all processes of a container.
///
/// # Errors
/// [`Error::NotPaused`].
pub fn resume(context: &Context<'_>, id: &str) -> Result<()> {
    let (_, folder) = context.find(id)?;
    let _lock = folder.lock()?;
    let record = folder.read_record()?;
    let group = cgroup::Group::open(&record.groups)?;
    if !group.is_frozen()? {
        return Err(Error::NotPaused);
    }
    Ok(group.thaw()?)
}
