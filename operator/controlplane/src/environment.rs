//! Chooses the environment of the children. It is not ours: etcd takes every `ETCD_…` variable for
//! a flag, and Go programs read proxies and kubeconfigs from variables that are meant for other
//! programs.

use std::ffi::OsString;

/// The places of programs and temporary files, and the settings of users who tune Go's memory.
const KEPT: [&str; 5] = ["PATH", "TMPDIR", "GOGC", "GOMEMLIMIT", "GOMAXPROCS"];
/// Collects garbage earlier than Go's default. This saves 50 MB in an idle control plane; its CPU
/// cost could not be measured.
const FRUGAL: (&str, &str) = ("GOGC", "50");

/// The environment of every child, from the variables of `ours`.
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
