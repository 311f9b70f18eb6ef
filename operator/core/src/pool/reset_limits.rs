//! The remains of a run that a reset may have to clear. A machine with more of them is replaced,
//! because another machine is made in less time, or because the host's disk would fill up.

/// Limits of the remains. The hypervisor measures them before and during a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetLimits {
    /// The bytes that a file of the machine may keep on the host's disk, beyond those of a new
    /// machine.
    ///
    /// A reset frees the data of a run, but the files keep their blocks, because no discard reaches
    /// them. They go with the machine.
    pub kept_bytes: u64,
    /// Files and folders in the share.
    pub share_entries: usize,
}

impl Default for ResetLimits {
    fn default() -> Self {
        Self { kept_bytes: 256 << 20, share_entries: 20_000 }
    }
}

impl ResetLimits {
    /// The reason to replace a machine whose largest file keeps `kept` bytes of the host's disk,
    /// where that of a new machine keeps `new`.
    pub fn keeps_too_much(&self, kept: u64, new: u64) -> Option<String> {
        let allowed = new.saturating_add(self.kept_bytes);
        let mib = |bytes: u64| bytes >> 20;
        (kept > allowed).then(|| {
            format!(
                "a file of it keeps {} MiB of the host's disk, and {} are allowed",
                mib(kept),
                mib(allowed)
            )
        })
    }

    /// The reason to replace a machine with more entries in its share than allowed.
    pub fn too_many_entries(&self) -> String {
        format!("more than {} entries are in its share", self.share_entries)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_machine_may_keep_256_mib_and_20000_entries() {
        let limits = ResetLimits::default();
        assert_eq!(limits.keeps_too_much((256 << 20) + 5, 5), None);
        assert_eq!(
            limits.keeps_too_much(257 << 20, 0).as_deref(),
            Some("a file of it keeps 257 MiB of the host's disk, and 256 are allowed")
        );
        assert_eq!(limits.too_many_entries(), "more than 20000 entries are in its share");
    }

    proptest! {
        #[test]
        fn no_more_than_the_limit_is_ever_kept(kept in any::<u64>(), new in any::<u64>()) {
            let limits = ResetLimits::default();
            let within = kept.saturating_sub(new) <= limits.kept_bytes;
            prop_assert_eq!(limits.keeps_too_much(kept, new).is_none(), within || kept <= new);
        }
    }
}
