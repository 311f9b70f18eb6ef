//! What of our environment the children get: etcd takes every `ETCD_…` for a flag, and Go programs take proxies and
//! kubeconfigs from it, none of which is meant for them.

use std::ffi::OsString;

/// Where programs and temporary files are, and how Go's memory is tuned by someone who knows better.
const KEPT: [&str; 5] = ["PATH", "TMPDIR", "GOGC", "GOMEMLIMIT", "GOMAXPROCS"];
/// Collects garbage earlier than Go does by itself: 50 MB less for an idle control plane, at no CPU that could be
/// measured.
const FRUGAL: (&str, &str) = ("GOGC", "50");

/// The environment of every child, out of what `ours` gives.
pub fn of_children(ours: impl Fn(&str) -> Option<OsString>) -> Vec<(&'static str, OsString)> {
    let mut environment: Vec<_> =
        KEPT.into_iter().filter_map(|name| Some((name, ours(name)?))).collect();
    if environment.iter().all(|(name, _)| *name != FRUGAL.0) {
        environment.push((FRUGAL.0, FRUGAL.1.into()));
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_get_what_they_need_and_nothing_that_changes_them() {
        let ours =
            |name: &str| ["PATH", "ETCD_NAME", "HTTPS_PROXY"].contains(&name).then(|| "x".into());
        assert_eq!(of_children(ours), [("PATH", "x".into()), ("GOGC", "50".into())]);
    }

    #[test]
    fn a_tuning_of_the_users_wins() {
        let ours = |name: &str| (name == "GOGC").then(|| "200".into());
        assert_eq!(of_children(ours), [("GOGC", "200".into())]);
    }
}
