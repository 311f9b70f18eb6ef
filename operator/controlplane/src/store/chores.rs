//! Decides which chore is due.

/// The store's answer about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    pub file_bytes: u64,
    pub used_bytes: u64,
    pub revision: u64,
    /// Writes are refused, because the file reached the quota.
    pub alarm: bool,
    /// The member that raised it.
    pub member: String,
}

/// One chore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Forget the revisions before this one.
    Compact {
        revision: u64,
    },
    /// Give back the free part of the file.
    Defragment,
    ClearAlarm,
}

/// The next chore, after `done` in this round. `earlier` is the revision of the round before: a
/// client that reads a long list may still need it, so only a store that refuses writes forgets
/// everything before now.
pub fn next(looked: &Looked, quota: u64, earlier: u64, done: Option<Chore>) -> Option<Chore> {
    let revision = if looked.alarm { looked.revision } else { earlier };
    let pressed = looked.alarm || looked.file_bytes > quota / 2;
    let free = looked.file_bytes.saturating_sub(looked.used_bytes);
    // To defragment stops the store for a moment, so it must be worth it.
    let worth_it = free > quota / 8 || (looked.alarm && free > 0);
    match done {
        None if pressed && revision > 0 => Some(Chore::Compact { revision }),
        None | Some(Chore::Compact { .. }) if pressed && worth_it => Some(Chore::Defragment),
        None | Some(Chore::Compact { .. } | Chore::Defragment) if looked.alarm => {
            // Without room it would be raised again by the next write.
            (looked.file_bytes < quota - quota / 16).then_some(Chore::ClearAlarm)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const QUOTA: u64 = 64 * MIB;

    fn looked(file_mib: u64, used_mib: u64, alarm: bool) -> Looked {
        let (file_bytes, used_bytes) = (file_mib * MIB, used_mib * MIB);
        Looked { file_bytes, used_bytes, revision: 100, alarm, member: "1".to_owned() }
    }

    #[test]
    fn a_store_with_room_is_left_alone() {
        assert_eq!(next(&looked(32, 1, false), QUOTA, 90, None), None);
    }

    #[test]
    fn at_half_the_old_revisions_go_and_then_the_free_part_of_the_file() {
        let first = next(&looked(40, 40, false), QUOTA, 90, None);
        assert_eq!(first, Some(Chore::Compact { revision: 90 }), "the last round's revision stays");
        assert_eq!(next(&looked(40, 10, false), QUOTA, 90, first), Some(Chore::Defragment));
        assert_eq!(next(&looked(10, 10, false), QUOTA, 90, Some(Chore::Defragment)), None);
        assert_eq!(next(&looked(40, 36, false), QUOTA, 90, first), None, "it gains too little");
        assert_eq!(next(&looked(40, 10, false), QUOTA, 0, None), Some(Chore::Defragment));
    }

    #[test]
    fn a_full_store_is_emptied_and_the_alarm_is_cleared_only_with_room() {
        let first = next(&looked(64, 64, true), QUOTA, 90, None);
        assert_eq!(first, Some(Chore::Compact { revision: 100 }), "everything before now");
        assert_eq!(next(&looked(64, 63, true), QUOTA, 90, first), Some(Chore::Defragment));
        let done = Some(Chore::Defragment);
        assert_eq!(next(&looked(20, 20, true), QUOTA, 90, done), Some(Chore::ClearAlarm));
        assert_eq!(next(&looked(63, 63, true), QUOTA, 90, done), None, "live data fills it");
        assert_eq!(next(&looked(20, 20, false), QUOTA, 90, Some(Chore::ClearAlarm)), None);
    }
}
