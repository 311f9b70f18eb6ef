//! MAC addresses of our devices.

use agentvm_types::Mac;

use crate::names::short_hash;

/// Derives a MAC address from these parts: equal parts give equal addresses. The first byte, `52`,
/// marks the address as locally administered and as one of a single device.
pub fn derive_mac(parts: &[&str]) -> Mac {
    let number = u32::from_str_radix(&short_hash(parts, 8), 16).unwrap_or_default();
    let [a, b, c, d] = number.to_be_bytes();
    Mac::new([0x52, 0x54, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mac = derive_mac(&["a"]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert!(mac.to_string().starts_with("52:54:") && mac.is_unicast());
        assert_ne!(mac, derive_mac(&["b"]));
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
