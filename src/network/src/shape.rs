//! Limits of what a container sends and receives, on the host's end of its veth, where the container cannot change them.
//!
//! ```text
//!  container eth0 ──► host's end ─(all that it receives)─► ifb, token bucket ─► back to the host's end ─► bridge, routes
//!  container eth0 ◄── token bucket of the host's end ◄──── bridge, routes
//! ```
//! A scheduler slows down what a device sends. What the host's end sends is what the container receives; what the
//! container sends, the host's end receives, and that is led through an `ifb` first, a device that does nothing else.

use crate::attach;
use crate::codec::{self, Request};
use crate::error::{Error, Place};
use crate::link;
use crate::socket::Socket;
use crate::spec::{HostEnd, Veth};
use crate::tc::{self, Device};

/// Sets both limits of a veth by its end on the host.
pub(crate) fn limit(
    socket: &mut Socket,
    device: Device<'_>,
    veth: &Veth,
    shaper: Option<&HostEnd>,
) -> Result<(), Error> {
    if let Some(rate) = veth.ingress {
        tc::apply(socket, tc::render_tbf(device.0, rate), "token bucket (tbf)", device)?;
    }
    let (Some(rate), Some(end)) = (veth.egress, shaper) else { return Ok(()) };
    link::create(socket, render_ifb(end), "ifb", || format!("make the ifb {:?}", end.name))?;
    let ifb = (attach::configure(socket, &end.name, Place::Host, &[])?, end.name.as_str());
    tc::apply(socket, tc::render_tbf(ifb.0, rate), "token bucket (tbf)", ifb)?;
    tc::apply(socket, tc::render_clsact(device.0), "filter of what comes in (clsact)", device)?;
    tc::apply(socket, tc::render_redirect(device.0, ifb.0), "filter u32 with the action mirred", device)
}

fn render_ifb(end: &HostEnd) -> Request {
    let header = link::render_header(0, 0, 0);
    let mut request = Request::new(link::NEWLINK, codec::ACK | codec::CREATE | codec::EXCL, &header);
    request.put_text(link::NAME, &end.name).put(link::ADDRESS, &end.mac.0);
    request.put_nested(link::INFO, &[], |info| {
        info.put_text(link::INFO_KIND, "ifb");
    });
    request
}
