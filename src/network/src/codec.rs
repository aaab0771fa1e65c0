//! Netlink messages as bytes: writing a request, walking over an answer.
//!
//! ```text
//! message:   | length u32 | kind u16 | flags u16 | sequence u32 | port u32 | family header | attributes ... |
//! attribute: | length u16 | kind u16 | value | padding to 4 |      a nested one has attributes as its value
//! ```
//! Numbers are in the machine's byte order; lengths include the header and exclude the padding. Nothing here makes a
//! system call, and no bytes make the reading side panic or loop: each step consumes at least a header.
//! Kernel: Documentation/userspace-api/netlink/intro.rst, include/uapi/linux/{netlink,rtnetlink}.h.

/// Bytes of `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;
/// Bytes of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// The bits of an attribute's kind that are not NLA_F_NESTED or NLA_F_NET_BYTEORDER.
const KIND_MASK: u16 = 0x3fff;
/// NLA_F_NESTED. Old parts of the kernel ignore it, newer ones demand it.
const NESTED: u16 = 0x8000;

/// NLM_F_REQUEST.
pub(crate) const REQUEST: u16 = 0x1;
/// NLM_F_ACK: answer with NLMSG_ERROR, errno 0 on success.
pub(crate) const ACK: u16 = 0x4;
/// NLM_F_DUMP_INTR: the table changed during the dump.
pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
/// NLM_F_CAPPED: a refusal does not repeat the request's payload.
const CAPPED: u16 = 0x100;
/// NLM_F_ACK_TLVS: a refusal carries attributes.
const ACK_TLVS: u16 = 0x200;
/// NLM_F_DUMP (ROOT and MATCH).
pub(crate) const DUMP: u16 = 0x300;
/// NLM_F_REPLACE.
pub(crate) const REPLACE: u16 = 0x100;
/// NLM_F_EXCL.
pub(crate) const EXCL: u16 = 0x200;
/// NLM_F_CREATE.
pub(crate) const CREATE: u16 = 0x400;

/// NLMSG_ERROR: refusal or acknowledgement.
pub(crate) const ERROR: u16 = 2;
/// NLMSG_DONE: end of a dump.
pub(crate) const DONE: u16 = 3;

/// MAX_ERRNO of the kernel.
const MAX_ERRNO: i32 = 4095;
/// NLMSGERR_ATTR_MSG: the kernel's explanation.
const ERROR_TEXT: u16 = 1;

/// Bytes that are no netlink message or attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A message to the kernel in the making.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Starts a message of a kind with its flags (NLM_F_REQUEST is added) and its family header.
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Request {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        // Sequence and port: the first is filled in by `finish`, the second by the kernel.
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(header);
        let mut request = Request { bytes };
        request.pad();
        request
    }

    /// Adds an attribute.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Request {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start)
    }

    /// Adds a number.
    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) -> &mut Request {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Adds a short number.
    pub(crate) fn put_u16(&mut self, kind: u16, value: u16) -> &mut Request {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Adds a text with the NUL that the kernel wants.
    pub(crate) fn put_text(&mut self, kind: u16, text: &str) -> &mut Request {
        let start = self.open(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(start)
    }

    /// Adds an attribute whose value is `header` followed by what `fill` adds.
    pub(crate) fn put_nested(&mut self, kind: u16, header: &[u8], fill: impl FnOnce(&mut Request)) -> &mut Request {
        let start = self.open(kind | NESTED);
        self.bytes.extend_from_slice(header);
        self.pad();
        fill(self);
        self.close(start)
    }

    /// The whole message under a sequence number.
    pub(crate) fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = u32::try_from(self.bytes.len()).expect("a few attributes, each below 64 KiB");
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) -> &mut Request {
        let length = self.bytes.len() - start;
        let length = u16::try_from(length).expect("names have 15 bytes, addresses 16, and four attributes nest in one");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// RTM_* or [`ERROR`], [`DONE`].
    pub(crate) kind: u16,
    /// NLM_F_*.
    pub(crate) flags: u16,
    /// The number of the request that it answers.
    pub(crate) sequence: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

/// The messages of a datagram; ends after the first malformed one.
#[derive(Debug, Clone)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = split_message(self.0);
        self.0 = message.map_or(&[], |(_, rest)| rest);
        Some(message.map(|(message, _)| message).ok_or(Malformed))
    }
}

fn split_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let payload = bytes.get(MESSAGE_HEADER..length)?;
    let message = Message { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, sequence: u32_at(bytes, 8)?, payload };
    Some((message, bytes.get(aligned(length)..).unwrap_or(&[])))
}

/// The attributes after a family header, as kind (without its flag bits) and value; ends after the first malformed one.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Attributes after a family header of `header` bytes.
    ///
    /// # Errors
    /// [`Malformed`] where the header does not fit.
    pub(crate) fn after(payload: &'a [u8], header: usize) -> Result<Attributes<'a>, Malformed> {
        payload.get(aligned(header)..).map(Attributes).ok_or(Malformed)
    }

    /// Attributes that are the value of another one.
    pub(crate) fn nested(value: &'a [u8]) -> Attributes<'a> {
        Attributes(value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let attribute = split_attribute(self.0);
        self.0 = attribute.map_or(&[], |(_, _, rest)| rest);
        Some(attribute.map(|(kind, value, _)| (kind, value)).ok_or(Malformed))
    }
}

fn split_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16_at(bytes, 0)?);
    let kind = u16_at(bytes, 2)? & KIND_MASK;
    let value = bytes.get(ATTRIBUTE_HEADER..length)?;
    Some((kind, value, bytes.get(aligned(length)..).unwrap_or(&[])))
}

/// The payload of an [`ERROR`] or [`DONE`] message: the positive errno, 0 for success, and the kernel's explanation.
///
/// # Errors
/// [`Malformed`] where it has no number or its attributes are broken.
pub(crate) fn decode_verdict(message: &Message<'_>) -> Result<(i32, Option<String>), Malformed> {
    let number = u32_at(message.payload, 0).ok_or(Malformed)?.cast_signed();
    let errno = number.checked_neg().filter(|errno| (0..=MAX_ERRNO).contains(errno)).ok_or(Malformed)?;
    if message.flags & ACK_TLVS == 0 {
        return Ok((errno, None));
    }
    let mut header = 4;
    if message.kind == ERROR {
        let repeated = u32_at(message.payload, 4).and_then(|length| usize::try_from(length).ok()).ok_or(Malformed)?;
        header += if message.flags & CAPPED == 0 { repeated } else { MESSAGE_HEADER };
    }
    for attribute in Attributes::after(message.payload, header)? {
        let (kind, value) = attribute?;
        if kind == ERROR_TEXT {
            return Ok((errno, Some(decode_text(value))));
        }
    }
    Ok((errno, None))
}

/// A text up to its NUL. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn decode_text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// The number at an offset.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

/// The next multiple of 4, for lengths that came from a u32 or a slice. Saturates where a usize has 32 bits.
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_lengths_padding_and_sequence() {
        let mut request = Request::new(16, ACK, &[0; 16]);
        request.put_text(3, "ab").put_nested(18, &[], |nested| {
            nested.put(1, b"veth");
        });
        let bytes = request.finish(7).to_vec();
        assert_eq!(bytes.len(), 16 + 16 + 8 + 4 + 8);
        let messages: Vec<_> = Messages(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].kind, messages[0].flags, messages[0].sequence), (16, ACK | REQUEST, 7));
        let attributes: Vec<_> = Attributes::after(messages[0].payload, 16).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(attributes[0], (3, &b"ab\0"[..]));
        assert_eq!(attributes[1].0, 18);
        assert_eq!(Attributes::nested(attributes[1].1).next(), Some(Ok((1, &b"veth"[..]))));
    }

    #[test]
    fn ends_at_an_attribute_without_length() {
        let attributes: Vec<_> = Attributes::nested(&[0; 12]).collect();
        assert_eq!(attributes, [Err(Malformed)]);
    }

    #[test]
    fn ends_at_a_message_without_length() {
        assert_eq!(Messages(&[0; 64]).collect::<Vec<_>>(), [Err(Malformed)]);
    }

    #[test]
    fn refuses_an_attribute_longer_than_its_message() {
        let mut bytes = 40u16.to_ne_bytes().to_vec();
        bytes.extend([0; 10]);
        assert_eq!(Attributes::nested(&bytes).collect::<Vec<_>>(), [Err(Malformed)]);
    }

    fn verdict(flags: u16, number: i32, repeated: usize, text: &str) -> Result<(i32, Option<String>), Malformed> {
        let mut payload = number.to_ne_bytes().to_vec();
        payload.extend(u32::try_from(MESSAGE_HEADER + repeated).unwrap().to_ne_bytes());
        payload.resize(4 + MESSAGE_HEADER, 0);
        if flags & CAPPED == 0 {
            payload.resize(4 + MESSAGE_HEADER + repeated, 0xff);
        }
        let length = u16::try_from(ATTRIBUTE_HEADER + text.len() + 1).unwrap();
        payload.extend(length.to_ne_bytes());
        payload.extend(ERROR_TEXT.to_ne_bytes());
        payload.extend(text.as_bytes());
        payload.push(0);
        decode_verdict(&Message { kind: ERROR, flags, sequence: 1, payload: &payload })
    }

    #[test]
    fn reads_the_explanation_behind_a_capped_and_a_whole_request() {
        assert_eq!(verdict(ACK_TLVS | CAPPED, -17, 32, "no"), Ok((17, Some("no".to_owned()))));
        assert_eq!(verdict(ACK_TLVS, -17, 32, "no"), Ok((17, Some("no".to_owned()))));
        assert_eq!(verdict(0, 0, 32, "no"), Ok((0, None)));
    }

    #[test]
    fn refuses_a_verdict_that_is_no_errno() {
        assert_eq!(verdict(0, 5, 0, ""), Err(Malformed));
        assert_eq!(verdict(0, -4096, 0, ""), Err(Malformed));
        assert_eq!(verdict(0, i32::MIN, 0, ""), Err(Malformed));
    }

    proptest::proptest! {
        #[test]
        fn foreign_bytes_end_without_a_panic(bytes: Vec<u8>) {
            // Each step takes at least a header: so many messages and attributes and no more.
            assert!(Messages(&bytes).count() <= bytes.len() / MESSAGE_HEADER + 1);
            assert!(Attributes::nested(&bytes).count() <= bytes.len() / ATTRIBUTE_HEADER + 1);
        }

        #[test]
        fn foreign_verdicts_end_without_a_panic(kind in 2u16..4, flags: u16, payload: Vec<u8>) {
            let verdict = decode_verdict(&Message { kind, flags, sequence: 0, payload: &payload });
            assert!(verdict.is_err() || payload.len() >= 4);
        }

        #[test]
        fn what_is_written_is_read_again(values: Vec<(u16, Vec<u8>)>) {
            let mut request = Request::new(20, 0, &[1; 8]);
            for (kind, value) in &values {
                request.put(*kind, value);
            }
            let bytes = request.finish(1).to_vec();
            let message = Messages(&bytes).next().unwrap().unwrap();
            let read: Vec<_> = Attributes::after(message.payload, 8).unwrap().collect::<Result<_, _>>().unwrap();
            let written: Vec<_> = values.iter().map(|(kind, value)| (kind & KIND_MASK, value.as_slice())).collect();
            assert_eq!(read, written);
        }
    }
}
