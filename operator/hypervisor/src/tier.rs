//! Reset tiers: the ways to the golden state, from the best to the last.

use serde::{Deserialize, Serialize};

/// How a machine gets to its golden state. The best comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// The same process is brought back: stop, drop private pages, load the device state, continue.
    InPlace,
    /// A fresh process from the private mapping of the golden memory.
    Fresh,
    /// A cold boot from the golden's disks.
    Boot,
}

impl Tier {
    pub const ALL: [Self; 3] = [Self::InPlace, Self::Fresh, Self::Boot];

    /// As the API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InPlace => "InPlace",
            Self::Fresh => "Fresh",
            Self::Boot => "Boot",
        }
    }

    /// As metrics say it.
    pub fn label(self) -> &'static str {
        match self {
            Self::InPlace => "in_place",
            Self::Fresh => "fresh",
            Self::Boot => "boot",
        }
    }
}

/// The best tier that has passed its self-test here, and what is wrong with the better ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tiers {
    pub best: Tier,
    /// Empty for `InPlace`: nothing is better.
    pub why_not_better: String,
}
