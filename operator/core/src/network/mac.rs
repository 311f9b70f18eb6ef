//! A MAC address as text: in domain XML, in rules, in what the guest is told.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{hex, short_hash};

/// The address of a network device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// A text that is no MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a MAC address such as 52:54:00:12:34:56")]
pub struct NotAMac(pub String);

impl Mac {
    /// Everybody on the wire.
    pub const BROADCAST: Self = Self([0xff; 6]);

    pub fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// The address that belongs to these parts: the same every time. `52` is locally administered and not multicast.
    pub fn derive(parts: &[&str]) -> Self {
        let number = u32::from_str_radix(&short_hash(parts, 8), 16).unwrap_or_default();
        let [a, b, c, d] = number.to_be_bytes();
        Self([0x52, 0x54, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|byte| hex(&[byte])).join(":"))
    }
}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let wrong = || NotAMac(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.trim().split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(wrong)?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = NotAMac;

    fn try_from(text: String) -> Result<Self, NotAMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mac = Mac::derive(&["a"]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert!(mac.to_string().starts_with("52:54:"));
        assert_ne!(mac, Mac::derive(&["b"]));
        for bad in [
            "",
            "52:54:00:00:00",
            "52:54:00:00:00:00:00",
            "5:54:00:00:00:00",
            "52:54:00:00:00:+1",
            "52-54-0-0-0-0",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
