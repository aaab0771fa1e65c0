//! Traffic control over route netlink: schedulers, classes, and one filter.
//!
//! Kernel: include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h, include/uapi/linux/tc_act/tc_mirred.h.

use sys::Errno;

use crate::codec::{self, Malformed, Request};
use crate::error::Error;
use crate::rate::Rate;
use crate::socket::Socket;

const NEWQDISC: u16 = 36;
const DELQDISC: u16 = 37;
const GETQDISC: u16 = 38;
const NEWCLASS: u16 = 40;
const NEWFILTER: u16 = 44;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;

/// TC_H_ROOT.
const ROOT: u32 = 0xffff_ffff;
/// TC_H_CLSACT, and below it TC_H_MIN_INGRESS.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_INGRESS: u32 = 0xffff_fff2;
/// What the kernel calls the handle of clsact: `ffff:`.
const CLSACT_HANDLE: u32 = 0xffff_0000;

/// TC_LINKLAYER_ETHERNET: lengths are those of the device's packets, and no rate table is needed.
const ETHERNET: u8 = 1;
/// Ticks of the scheduler's clock have 64 ns (PSCHED_SHIFT).
const TICK_NS: u64 = 64;

/// How much may go at once, as time at the rate: as long as a busy machine may leave the queue alone, since what a bucket
/// that is full cannot take is lost to the rate.
const BURST_MS: u64 = 50;
/// At least so many bytes: ten full packets, as TCP begins with.
const LEAST_BURST: u64 = 16 * 1024;
/// How long a packet may wait; what comes beyond is dropped. TCP needs some of it to keep the link busy after a loss.
const QUEUE_MS: u64 = 100;

/// A device by number and name.
pub(crate) type Device<'a> = (u32, &'a str);

/// Bytes that may go at once.
fn burst(rate: Rate) -> u32 {
    u32::try_from((rate.bytes() * BURST_MS / 1000).max(LEAST_BURST)).unwrap_or(u32::MAX)
}

/// Time that a number of bytes takes at a rate, in ticks.
fn ticks(bytes: u32, rate: Rate) -> u32 {
    let ns = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(rate.bits());
    u32::try_from(ns / u128::from(TICK_NS)).unwrap_or(u32::MAX)
}

/// `struct tc_ratespec`: cell_log u8, linklayer u8, overhead u16, cell_align i16, mpu u16, rate u32 in bytes per second.
fn render_ratespec(rate: Rate) -> [u8; 12] {
    let mut spec = [0; 12];
    spec[1] = ETHERNET;
    let bytes = u32::try_from(rate.bytes()).unwrap_or(u32::MAX);
    spec[8..].copy_from_slice(&bytes.to_ne_bytes());
    spec
}

/// A rate that 32 bits do not hold has an attribute of its own besides.
fn put_rate64(request: &mut Request, kind: u16, rate: Rate) {
    if rate.bytes() > u64::from(u32::MAX) {
        request.put(kind, &rate.bytes().to_ne_bytes());
    }
}

/// The header of a message: `struct tcmsg` has family u8, padding, index i32, handle, parent and info u32.
fn render_header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut header = [0; 20];
    for (position, value) in [index, handle, parent, info].into_iter().enumerate() {
        header[4 + 4 * position..8 + 4 * position].copy_from_slice(&value.to_ne_bytes());
    }
    header
}

/// A token bucket as the whole of what a device sends.
pub(crate) fn render_tbf(index: u32, rate: Rate) -> Request {
    let burst = burst(rate);
    let queue = u32::try_from(rate.bytes() * QUEUE_MS / 1000).unwrap_or(u32::MAX / 2);
    let mut parms = [0; 36];
    parms[..12].copy_from_slice(&render_ratespec(rate));
    // No peak rate at 12..24; then limit, buffer, mtu.
    parms[24..28].copy_from_slice(&queue.saturating_add(burst).to_ne_bytes());
    parms[28..32].copy_from_slice(&ticks(burst, rate).to_ne_bytes());
    let header = render_header(index, 0, ROOT, 0);
    let mut request = Request::new(NEWQDISC, codec::ACK | codec::CREATE | codec::REPLACE, &header);
    request.put_text(KIND, "tbf").put_nested(OPTIONS, &[], |options| {
        // TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST.
        options.put(1, &parms);
        put_rate64(options, 4, rate);
        options.put_u32(6, burst);
    });
    request
}

/// Where filters for what a device receives are hung.
pub(crate) fn render_clsact(index: u32) -> Request {
    let header = render_header(index, CLSACT_HANDLE, CLSACT, 0);
    let mut request = Request::new(NEWQDISC, codec::ACK | codec::CREATE | codec::EXCL, &header);
    request.put_text(KIND, "clsact");
    request
}

/// Sends all that a device receives out through another one, which gives it back when it has passed its scheduler (ifb).
pub(crate) fn render_redirect(index: u32, to: u32) -> Request {
    // Priority 1, all protocols (ETH_P_ALL, in the network's byte order).
    let info = 1 << 16 | u32::from(3u16.to_be());
    let header = render_header(index, 0, CLSACT_INGRESS, info);
    let mut request = Request::new(NEWFILTER, codec::ACK | codec::CREATE | codec::EXCL, &header);
    // struct tc_u32_sel: flags u8 (TC_U32_TERMINAL), shift u8, number of keys u8, then 13 bytes of offsets; one key of
    // mask, value, offset and offset mask, all zero: it matches everything.
    let mut selector = [0; 32];
    (selector[0], selector[2]) = (1, 1);
    // struct tc_mirred: index, capab, action TC_ACT_STOLEN, refcnt, bindcnt, eaction TCA_EGRESS_REDIR, ifindex.
    let mirred: Vec<u8> = [0, 0, 4, 0, 0, 1, to].into_iter().flat_map(u32::to_ne_bytes).collect();
    request.put_text(KIND, "u32").put_nested(OPTIONS, &[], |options| {
        // TCA_U32_SEL, then TCA_U32_ACT with one action: TCA_ACT_KIND, TCA_ACT_OPTIONS with TCA_MIRRED_PARMS.
        options.put(5, &selector).put_nested(7, &[], |actions| {
            actions.put_nested(1, &[], |action| {
                action.put_text(1, "mirred").put_nested(2, &[], |mirror| {
                    mirror.put(2, &mirred);
                });
            });
        });
    });
    request
}

/// Classes as the whole of what a device sends, under the handle `1:`; what belongs to none has the class `other`.
pub(crate) fn render_htb(index: u32, other: u16) -> Request {
    let header = render_header(index, 1 << 16, ROOT, 0);
    let mut request = Request::new(NEWQDISC, codec::ACK | codec::CREATE | codec::REPLACE, &header);
    // struct tc_htb_glob: version 3, rate2quantum 10, default class, debug, direct packets.
    let glob: Vec<u8> = [3, 10, u32::from(other), 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    request.put_text(KIND, "htb").put_nested(OPTIONS, &[], |options| {
        options.put(2, &glob);
    });
    request
}

/// A class `1:minor` below `1:parent` (0: below htb itself) with what it is sure of and what it may borrow up to.
pub(crate) fn render_htb_class(
    index: u32,
    (parent, minor): (u16, u16),
    rate: Rate,
    ceil: Rate,
    priority: u32,
) -> Request {
    let at = |minor: u16| 1 << 16 | u32::from(minor);
    let header = render_header(index, at(minor), at(parent), 0);
    let mut request = Request::new(NEWCLASS, codec::ACK | codec::CREATE | codec::REPLACE, &header);
    // struct tc_htb_opt: two rates, then buffer, cbuffer, quantum, level, priority. The quantum is what a class sends before
    // its neighbour's turn: two packets.
    let mut parms = Vec::with_capacity(44);
    parms.extend(render_ratespec(rate));
    parms.extend(render_ratespec(ceil));
    let numbers = [ticks(burst(rate), rate), ticks(burst(ceil), ceil), 2 * 1514, 0, priority];
    parms.extend(numbers.into_iter().flat_map(u32::to_ne_bytes));
    request.put_text(KIND, "htb").put_nested(OPTIONS, &[], |options| {
        // TCA_HTB_PARMS, TCA_HTB_RATE64, TCA_HTB_CEIL64.
        options.put(1, &parms);
        put_rate64(options, 6, rate);
        put_rate64(options, 7, ceil);
    });
    request
}

/// Has the kernel do it; where it lacks the part, that is said.
pub(crate) fn apply(
    socket: &mut Socket,
    request: Request,
    what: &'static str,
    device: Device<'_>,
) -> Result<(), Error> {
    match socket.change(request, || format!("set up {what} on network device {:?}", device.1)) {
        Err(Error::Refused { errno: Errno::NOENT, .. }) => {
            Err(Error::NoTrafficControl { what, name: device.1.to_owned() })
        }
        other => other,
    }
}

/// Whether somebody has given a device a scheduler: the kernel's own have the handle 0.
pub(crate) fn has_root(socket: &mut Socket, device: Device<'_>) -> Result<bool, Error> {
    let request = Request::new(GETQDISC, codec::DUMP, &render_header(device.0, 0, 0, 0));
    let what = || format!("read the scheduler of network device {:?}", device.1);
    let found = socket.dump(&request, what, decode_root)?;
    Ok(found.contains(&Some(device.0)))
}

/// The device's number, where a message is about a scheduler for all that the device sends, and somebody's.
fn decode_root(payload: &[u8]) -> Result<Option<u32>, Malformed> {
    let number = |offset| codec::u32_at(payload, offset).ok_or(Malformed);
    let (index, handle, parent) = (number(4)?, number(8)?, number(12)?);
    Ok((parent == ROOT && handle != 0).then_some(index))
}

/// Takes the scheduler of a device away, with its classes. False where it has none of its own.
pub(crate) fn delete_root(socket: &mut Socket, device: Device<'_>) -> Result<bool, Error> {
    let request = Request::new(DELQDISC, codec::ACK, &render_header(device.0, 0, ROOT, 0));
    match socket.change(request, || format!("take the scheduler of network device {:?} away", device.1)) {
        Err(Error::Refused { errno: Errno::NOENT | Errno::NODEV, .. }) => Ok(false),
        other => other.map(|()| true),
    }
}
