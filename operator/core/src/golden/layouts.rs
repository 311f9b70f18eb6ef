//! The device layouts that a golden is captured for, and the state of all of them together.

use std::collections::BTreeSet;

use super::Local;
use crate::golden::DeviceLayout;

/// The layouts that the pools of a golden need. Without a pool: the layout of a pool with defaults.
pub fn needed(pools: impl IntoIterator<Item = DeviceLayout>) -> BTreeSet<DeviceLayout> {
    let layouts: BTreeSet<DeviceLayout> = pools.into_iter().collect();
    if layouts.is_empty() { [DeviceLayout::Nic].into() } else { layouts }
}

/// The layout that is farthest from being done speaks for the golden, by its name where there are
/// several.
pub fn least(layouts: &[(DeviceLayout, Local)]) -> Local {
    let Some((layout, local)) = layouts.iter().min_by_key(|(_, local)| progress(local)) else {
        return Local::Absent;
    };
    let said = |text: &str| {
        let one = layouts.len() == 1;
        if one { text.to_owned() } else { format!("layout {}: {text}", layout.as_str()) }
    };
    match local {
        Local::Capturing { doing } => Local::Capturing { doing: said(doing) },
        Local::Failed { reason, message, retry_at } => {
            Local::Failed { reason: *reason, message: said(message), retry_at: *retry_at }
        }
        Local::Absent | Local::Queued | Local::Ready => local.clone(),
    }
}

fn progress(local: &Local) -> u8 {
    match local {
        Local::Failed { retry_at: None, .. } => 0,
        Local::Failed { retry_at: Some(_), .. } => 1,
        Local::Capturing { .. } => 2,
        Local::Absent | Local::Queued => 3,
        Local::Ready => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_golden_that_nobody_uses_yet_is_what_a_pool_without_a_word_on_networks_needs() {
        assert_eq!(needed([]), [DeviceLayout::Nic].into());
        assert_eq!(
            needed([DeviceLayout::Isolated, DeviceLayout::Isolated]),
            [DeviceLayout::Isolated].into()
        );
        assert_eq!(needed([DeviceLayout::Isolated, DeviceLayout::Nic]).len(), 2);
    }

    #[test]
    fn the_layout_that_lacks_most_speaks() {
        let busy = || Local::Capturing { doing: "boots".into() };
        let named = Local::Capturing { doing: "layout Nic: boots".into() };
        assert_eq!(
            least(&[(DeviceLayout::Isolated, Local::Ready), (DeviceLayout::Nic, busy())]),
            named
        );
        assert_eq!(least(&[(DeviceLayout::Nic, busy())]), busy());
        assert_eq!(
            least(&[(DeviceLayout::Isolated, Local::Queued), (DeviceLayout::Nic, Local::Ready)]),
            Local::Queued
        );
        assert_eq!(
            least(&[(DeviceLayout::Isolated, Local::Ready), (DeviceLayout::Nic, Local::Ready)]),
            Local::Ready
        );
    }
}
