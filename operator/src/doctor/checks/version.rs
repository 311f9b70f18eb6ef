//! Versions, read and compared as numbers.

use std::fmt;

/// Major and minor version. A floor needs no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub u32, pub u32);

impl Version {
    /// The first two numbers of a version such as `10.0.2`, `9.0.0-rc1` or `8.2`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(Version::parse("10.0.2"), Some(Version(10, 0)));
        assert_eq!(Version::parse("9.0.0-rc1"), Some(Version(9, 0)));
        assert!(Version::parse("10.0.2") > Version::parse("8.2.0"));
        assert_eq!(Version::parse("unknown"), None);
    }
}
