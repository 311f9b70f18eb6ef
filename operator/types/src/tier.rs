//! Reset tiers: the ways in which a machine gets to its golden state.

use serde::{Deserialize, Serialize};

/// A way in which a machine gets to its golden state. The best tier comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// The process of the machine is reset: stop, drop private pages, load the device state, continue.
    InPlace,
    /// A fresh process maps the golden memory privately.
    Fresh,
    /// A cold boot from the golden's disks.
    Boot,
}

impl Tier {
    pub const ALL: [Self; 3] = [Self::InPlace, Self::Fresh, Self::Boot];

    /// The text of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InPlace => "InPlace",
            Self::Fresh => "Fresh",
            Self::Boot => "Boot",
        }
    }

    /// The label of metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::InPlace => "in_place",
            Self::Fresh => "fresh",
            Self::Boot => "boot",
        }
    }
}

/// The tier that is in use, and why no better one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierReport {
    pub tier: Tier,
    /// Empty for `InPlace`: no tier is better.
    pub why_not_better: String,
    /// The failures for which a better tier is not used for a while.
    pub degraded: Option<String>,
}

impl TierReport {
    /// Machines can be reset in place.
    pub fn in_place() -> Self {
        Self { tier: Tier::InPlace, why_not_better: String::new(), degraded: None }
    }

    /// A tier that is not the best; nothing has failed lately.
    pub fn limited_to(tier: Tier, why_not_better: impl Into<String>) -> Self {
        Self { tier, why_not_better: why_not_better.into(), degraded: None }
    }
}
