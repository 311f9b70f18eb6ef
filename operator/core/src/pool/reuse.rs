//! Decides whether a machine is reset in place or replaced after its run.

use agentvm_crds::ReusePolicy;

/// The facts that decide about a machine whose run is over.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts; any of them is enough for a no"
)]
pub struct UsedMachine {
    pub policy: ReusePolicy,
    pub max_reuses: u32,
    /// The number of resets of this process.
    pub reuses: u32,
    /// The pool's next machine would be made of the same golden, with the same attachment.
    pub golden_wanted: bool,
    /// The pool exists and has the slot, and the operator is not about to stop.
    pub slot_wanted: bool,
    /// The attempt ended by itself and was seen to end: nothing was ended by force, and QEMU lives.
    pub intact: bool,
    /// Resets in place have passed their self-test on this host and are not given up at the moment.
    pub in_place: bool,
}

/// The decision about a machine whose run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRun {
    /// The machine is reset in place.
    Reset,
    /// The machine is removed. The pool makes another one if it wants one.
    Replace { why: &'static str },
}

/// Decides; never acts. A machine never changes its slot, so its next run is in the same namespace.
pub fn after_run(used: &UsedMachine) -> AfterRun {
    let why = match used {
        UsedMachine { policy: ReusePolicy::Never, .. } => "reusePolicy is Never",
        UsedMachine { slot_wanted: false, .. } => "its slot is not wanted any more",
        UsedMachine { golden_wanted: false, .. } => "its golden is not the pool's any more",
        UsedMachine { intact: false, .. } => "its attempt did not end by itself",
        UsedMachine { in_place: false, .. } => "resets in place are not in use here",
        UsedMachine { reuses, max_reuses, .. } if reuses >= max_reuses => {
            "it was brought back maxReuses times"
        }
        UsedMachine { policy: ReusePolicy::VerifiedReset, .. } => return AfterRun::Reset,
    };
    AfterRun::Replace { why }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn used() -> impl Strategy<Value = UsedMachine> {
        let policy = prop_oneof![Just(ReusePolicy::Never), Just(ReusePolicy::VerifiedReset)];
        (policy, 0_u32..4, 0_u32..4, any::<[bool; 4]>()).prop_map(
            |(policy, max_reuses, reuses, flags)| {
                let [golden_wanted, slot_wanted, intact, in_place] = flags;
                UsedMachine {
                    policy,
                    max_reuses,
                    reuses,
                    golden_wanted,
                    slot_wanted,
                    intact,
                    in_place,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn in_place_only_when_everything_is_in_favour_of_it(used in used()) {
            let UsedMachine { policy, max_reuses, reuses, .. } = used;
            let all = used.golden_wanted && used.slot_wanted && used.intact && used.in_place;
            let wanted = all && policy == ReusePolicy::VerifiedReset && reuses < max_reuses;
            prop_assert_eq!(after_run(&used) == AfterRun::Reset, wanted);
        }

        #[test]
        fn a_process_serves_at_most_one_run_more_than_max_reuses(max_reuses in 0_u32..200) {
            let mut used = UsedMachine {
                policy: ReusePolicy::VerifiedReset, max_reuses, reuses: 0,
                golden_wanted: true, slot_wanted: true, intact: true, in_place: true,
            };
            let mut runs = 1;
            while after_run(&used) == AfterRun::Reset {
                used.reuses += 1;
                runs += 1;
            }
            prop_assert_eq!(runs, max_reuses + 1);
        }
    }
}
