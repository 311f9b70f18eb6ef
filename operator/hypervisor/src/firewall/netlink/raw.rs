//! Netlink messages by hand, as far as nfnetlink needs them.
//!
//! Lengths are believed only up to the end of the bytes: no input makes a reader here panic,
//! allocate or loop.

/// The kind of the kernel's answer, where it is yes or no.
pub const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const HEADER: usize = 16;
/// The kind of an attribute, without the marks for the form of its value.
const KIND: u16 = 0x3fff;

/// A message to the kernel that wants to hear whether it was done.
#[derive(Debug)]
pub struct Request(Vec<u8>);

impl Request {
    /// `body` is the part before the attributes.
    pub fn new(kind: u16, body: &[u8]) -> Self {
        let flags = REQUEST | ACKNOWLEDGE;
        // The length is known at the end; the kernel fills in number and sender.
        let header = [&[0; 4][..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
        Self([&header, body].concat())
    }

    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(attribute(kind, value));
        self
    }

    pub fn bytes(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.splice(..4, length.to_ne_bytes());
        self.0
    }
}

/// Padded, as the one after it wants it. A value may be attributes itself.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut attribute = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// A message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u16,
    /// The process that caused the event, if the message names one.
    pub by: u32,
    pub body: &'a [u8],
}

impl Message<'_> {
    /// The error number where this is an answer; 0 is yes.
    pub fn refusal(&self) -> Option<i32> {
        let code = (self.kind == ERROR).then(|| first(self.body)).flatten()?;
        Some(i32::from_ne_bytes(code).wrapping_neg())
    }
}

/// All messages in one datagram; it ends where the lengths make no sense.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(first(rest)?)).ok()?;
        let kind = u16::from_ne_bytes(first(rest.get(4..)?)?);
        let by = u32::from_ne_bytes(first(rest.get(12..)?)?);
        let body = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, by, body })
    })
}

/// Kinds and values.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(first(rest)?));
        let kind = u16::from_ne_bytes(first(rest.get(2..)?)?) & KIND;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first bytes.
pub fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = Request::new(7, &[1, 2, 3, 4])
            .with(3, b"abc")
            .with(0x8004, &attribute(5, b"x"))
            .bytes();
        assert_eq!(bytes.len() % 4, 0);
        let message = messages(&bytes).next().unwrap();
        assert_eq!((message.kind, message.by, message.refusal()), (7, 0, None));
        let read: Vec<_> = attributes(&message.body[4..]).collect();
        assert_eq!(read[0], (3, &b"abc"[..]));
        assert_eq!(
            (read[1].0, attributes(read[1].1).collect::<Vec<_>>()),
            (4, vec![(5, &b"x"[..])])
        );
        assert_eq!(messages(&[bytes.clone(), bytes].concat()).count(), 2);
    }

    #[test]
    fn a_refusal_has_the_kernel_s_number() {
        let answer = Request::new(ERROR, &(-19_i32).to_ne_bytes()).bytes();
        assert_eq!(messages(&answer).next().unwrap().refusal(), Some(19));
    }

    proptest! {
        #[test]
        fn bytes_of_anybody_are_read_to_their_end(bytes: Vec<u8>) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER);
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4 + 1);
        }
    }
}
