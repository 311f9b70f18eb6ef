//! `/proc/PID/stat`: the state of a process, its parent, and when it started.

use std::fmt::Display;
use std::{fs, io};

/// The fields of `/proc/PID/stat` that agentvm uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    /// `Z` is a process that ended and that its parent has not waited for.
    pub state: char,
    pub parent: i32,
    /// In clock ticks since the host's boot. With the number, it identifies a process: the kernel
    /// gives a number to another process later.
    pub started: u64,
}

impl ProcessStat {
    /// The process that has this number now.
    pub fn of(pid: impl Display) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The second field is a name in parentheses. It may hold spaces and parentheses, so the fields
    /// count from the last parenthesis.
    pub fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split_ascii_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            started: fields.nth(17)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_moves_no_field() {
        let rest = (4..30).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let expected = ProcessStat { state: 'R', parent: 4, started: 22 };
        for name in ["a", "a) b ", "(sd-pam)", ") Z 9 9", ""] {
            let stat = format!("1 ({name}) R {rest}\n");
            assert_eq!(ProcessStat::parse(&stat), Some(expected), "{stat}");
        }
        for damaged in ["garbage", "", "1 (a) R 4", "1 (a) R x 1 2", "1 (a)"] {
            assert_eq!(ProcessStat::parse(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn the_caller_has_a_parent_and_a_number_without_a_process_is_an_error() {
        let me = ProcessStat::of(std::process::id()).unwrap();
        assert_eq!(u32::try_from(me.parent).unwrap(), std::os::unix::process::parent_id());
        assert!(me.started > 0 && me.state != 'Z');
        assert_eq!(ProcessStat::of(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(stat in "\\PC{0,60}|1 \\([a-z() ]{0,9}\\) [RSZ] [0-9 ]{0,60}") {
            let _ = ProcessStat::parse(&stat);
        }
    }
}
