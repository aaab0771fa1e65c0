//! Network links that are made for a container.

use std::os::fd::AsFd;

use network::{LinkRecord, LinkSpec};

use super::Host;
use crate::error::Result;
use crate::undo::Undo;

/// The file in a container's folder on which its network namespace is mounted while a device of the host is in it.
const PIN: &str = "netns";

/// Makes a link. What a device of the host has is known now only: it goes into the container's record first.
pub(super) fn make(host: &mut Host<'_>, link: &LinkSpec, planned: &LinkRecord) -> Result<()> {
    let netns = host.proc.open_namespace(host.pid()?, "net")?;
    let pin = host.recorder.as_ref().map_or(Ok(String::new()), |recorder| {
        let folder = host.proc.path_of(recorder.folder.as_fd())?;
        Ok::<_, sys::Error>(format!("{folder}/{PIN}-{}", link.name))
    })?;
    let Some(complete) = network::read_phys(link, &pin, netns.as_fd())? else {
        return Ok(network::create_link(link, planned, netns.as_fd())?);
    };
    if let Some(recorder) = &mut host.recorder {
        let ours = |undo: &&mut Undo| matches!(undo, Undo::Link { link: LinkRecord::Phys { device: None, .. } });
        if let Some(entry) = recorder.record.undo.iter_mut().find(ours) {
            *entry = Undo::Link { link: complete.clone() };
        }
        recorder.write()?;
        network::pin_netns(&pin, netns.as_fd())?;
    }
    Ok(network::create_link(link, &complete, netns.as_fd())?)
}
