//! Tests that need a network of their own: each runs again, in a new namespace.

use std::process::Command;

const INSIDE: &str = "AGENTVM_TEST_IN_NAMESPACE";

/// `true` inside; `false` when it ran inside and passed. A test that is not found by its name has
/// not passed.
pub fn inside(module: &str, test: &str, environment: &[(&str, String)]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let (_, module) = module.split_once("::").unwrap();
    let mut again = Command::new("unshare");
    again.arg("--net").arg(std::env::current_exe().unwrap());
    again.args(["--exact", &format!("{module}::{test}"), "--nocapture"]).env(INSIDE, "1");
    again.envs(environment.iter().map(|(name, value)| (*name, value)));
    let done = again.output().unwrap();
    let said =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    print!("{said}");
    false
}
