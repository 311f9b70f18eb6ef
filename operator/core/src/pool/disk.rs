//! The disk of a node: whether new machines and runs may begin, and which machine goes when hardly
//! any space is left.
//!
//! Machines and output may grow to more than the disk has. So a part stays in reserve: below the
//! low mark nothing new begins, and below the critical mark one machine ends, not all of them.

use std::collections::HashMap;

/// A machine that takes less is no remedy.
const LEAST_MIB: u64 = 64;

/// The marks, and the share of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskLimits {
    /// Below this, no machine is made and no run is claimed.
    pub low_mib: u64,
    /// Below this, the machine ends that takes most.
    pub critical_mib: u64,
    /// Output that the runs of one namespace may keep on this node; `None` if there is no limit.
    pub namespace_mib: Option<u64>,
}

impl Default for DiskLimits {
    fn default() -> Self {
        Self { low_mib: 2048, critical_mib: 512, namespace_mib: Some(50 * 1024) }
    }
}

/// The free space of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// A folder in it.
    pub place: String,
    pub free_mib: u64,
}

/// The need for disk space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pressure {
    #[default]
    None,
    /// Nothing new may begin; the text says why.
    Low(String),
    /// One machine has to end, too.
    Critical(String),
}

impl Pressure {
    /// Why nothing new may begin.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Low(why) | Self::Critical(why) => Some(why),
        }
    }
}

/// The fullest file system decides.
pub fn pressure(spaces: &[FreeSpace], limits: DiskLimits) -> Pressure {
    let Some(least) = spaces.iter().min_by_key(|space| space.free_mib) else {
        return Pressure::None;
    };
    let FreeSpace { place, free_mib } = least;
    if *free_mib >= limits.low_mib {
        return Pressure::None;
    }
    let why = format!(
        "{free_mib} MiB are free at {place}; new machines and runs need {} (node.disk_low_mib)",
        limits.low_mib
    );
    if *free_mib < limits.critical_mib { Pressure::Critical(why) } else { Pressure::Low(why) }
}

/// The machine to end: the one that takes most.
pub fn greediest<T>(machines: impl IntoIterator<Item = (T, u64)>) -> Option<T> {
    let most = machines.into_iter().max_by_key(|(_, bytes)| *bytes);
    most.filter(|(_, bytes)| bytes >> 20 >= LEAST_MIB).map(|(machine, _)| machine)
}

/// The state of a node's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskState {
    pub pressure: Pressure,
    /// The bytes of output that each namespace keeps on this node.
    pub kept: HashMap<String, u64>,
}

impl DiskState {
    /// Why a run of this namespace may not begin.
    pub fn refuses(&self, namespace: &str, limits: DiskLimits) -> Option<String> {
        if let Some(why) = self.pressure.why() {
            return Some(why.to_owned());
        }
        let kept = self.kept.get(namespace).copied().unwrap_or(0) >> 20;
        limits.namespace_mib.filter(|limit| kept >= *limit).map(|limit| {
            format!(
                "finished runs of this namespace keep {kept} MiB of output on the node, and \
                 {limit} are allowed (node.output_mib_per_namespace): delete runs, or give them a \
                 shorter ttlSecondsAfterFinished"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DiskLimits =
        DiskLimits { low_mib: 100, critical_mib: 10, namespace_mib: Some(5) };

    fn at(free: &[u64]) -> Pressure {
        let space = |free_mib: &u64| FreeSpace { place: "/x".into(), free_mib: *free_mib };
        pressure(&free.iter().map(space).collect::<Vec<_>>(), LIMITS)
    }

    #[test]
    fn the_fullest_file_system_decides_and_is_named() {
        assert_eq!((at(&[]), at(&[100, 5000])), (Pressure::None, Pressure::None));
        let low = at(&[5000, 99]);
        assert!(matches!(&low, Pressure::Low(why) if why.contains("99 MiB are free at /x")));
        assert!(matches!(at(&[10]), Pressure::Low(_)));
        assert!(matches!(at(&[9, 5000]), Pressure::Critical(_)));
    }

    #[test]
    fn only_a_machine_whose_end_helps_is_ended() {
        assert_eq!(greediest([("a", 90 << 20), ("b", 70 << 20)]), Some("a"));
        assert_eq!(greediest([("a", 63 << 20)]), None);
        assert_eq!(greediest::<&str>([]), None);
    }

    #[test]
    fn a_namespace_that_keeps_too_much_waits_alone() {
        let kept = HashMap::from([("full".to_owned(), 5 << 20), ("other".to_owned(), 4 << 20)]);
        let state = DiskState { pressure: Pressure::None, kept };
        assert!(state.refuses("full", LIMITS).unwrap().contains("keep 5 MiB"));
        assert_eq!(state.refuses("other", LIMITS), None);
        assert_eq!(state.refuses("new", LIMITS), None);
        let unlimited = DiskLimits { namespace_mib: None, ..LIMITS };
        assert_eq!(state.refuses("full", unlimited), None);
        let low = DiskState { pressure: at(&[9]), ..state };
        assert!(low.refuses("new", LIMITS).is_some());
    }
}
