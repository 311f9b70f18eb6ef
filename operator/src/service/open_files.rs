//! The number of files that this process may open.
//!
//! The soft limit is low for the sake of old programs. The operator holds several descriptors per
//! machine and up to 64 per collection, so it takes what the hard limit allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Beyond this, more descriptors help nobody, and child processes that close all of them take long.
const ENOUGH: u64 = 1 << 20;

/// Raises the soft limit to the hard limit.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH));
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let limit = Rlimit { current: Some(wanted), maximum };
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => tracing::debug!(files = wanted, "the limit of open files is raised"),
        Err(why) => tracing::warn!(
            error = &why as &dyn std::error::Error,
            "the limit of open files could not be raised"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit { current: Some(256), maximum: before.maximum };
        setrlimit(Resource::Nofile, low).unwrap();
        raise();
        let after = getrlimit(Resource::Nofile).current;
        setrlimit(Resource::Nofile, before).unwrap();
        assert_eq!(after, Some(before.maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH))));
    }
}
