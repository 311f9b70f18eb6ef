//! The Ethernet address of a network device.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

/// A MAC address. Its text has six pairs of hex digits, as in `52:54:00:12:34:56`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// A text or bytes that are not the MAC address that is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    #[error("\"{0}\" is not a MAC address such as 52:54:00:12:34:56")]
    Syntax(String),
    #[error(
        "{0} is not the MAC address of a single device: its first byte must be even, and it \
         must not be all zero"
    )]
    NotUnicast(Mac),
}

impl Mac {
    /// All devices on the wire.
    pub const BROADCAST: Self = Self([0xff; 6]);

    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// Does it name a single device? A group of devices and the zero address do not.
    pub fn is_unicast(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 0 && self.0 != [0; 6]
    }
}

/// For fields that must name a single device: `#[serde(deserialize_with = "deserialize_unicast")]`.
pub fn deserialize_unicast<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
    let mac = Mac::deserialize(deserializer)?;
    if mac.is_unicast() {
        Ok(mac)
    } else {
        Err(serde::de::Error::custom(MacError::NotUnicast(mac)))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let wrong = || MacError::Syntax(text.to_owned());
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs
                .next()
                .filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
        }
        if pairs.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_back(bytes in any::<[u8; 6]>()) {
            let mac = Mac::new(bytes);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
            prop_assert_eq!(mac.bytes(), bytes);
        }
    }

    #[test]
    fn what_is_not_six_pairs_of_hex_digits_is_refused() {
        let wrong = [
            "",
            "52:54:00:00:00",
            "52:54:00:00:00:00:00",
            "5:54:00:00:00:00",
            "52:54:00:00:00:+1",
            "52-54-0-0-0-0",
            " 52:54:00:00:00:00",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Mac>(), Err(MacError::Syntax(text.to_owned())));
        }
    }

    #[test]
    fn groups_and_the_zero_address_are_not_a_single_device() {
        assert!(Mac::new([0x52, 0x54, 0, 0, 0, 1]).is_unicast());
        for group in [Mac::BROADCAST, Mac::new([0; 6]), Mac::new([1, 0, 0x5e, 0, 0, 1])] {
            assert!(!group.is_unicast(), "{group}");
            let text = serde_json::to_string(&group).unwrap();
            assert!(
                deserialize_unicast(&mut serde_json::Deserializer::from_str(&text)).is_err(),
                "{group}"
            );
        }
    }
}
