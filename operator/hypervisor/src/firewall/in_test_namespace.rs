//! Tests that need a network for themselves: each runs once more, in a network namespace of its own.

use std::process::Command;

const INSIDE: &str = "AGENTVM_TEST_IN_NAMESPACE";

/// `true` in the namespace; `false` when the test ran there and passed. A test that isn't found by
/// its name ran nowhere, so this panics.
pub fn inside(module: &str, test: &str, environment: &[(&str, String)]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    // The first part of the module's path is the crate, which the harness leaves out.
    let name = match module.split_once("::") {
        Some((_, module)) => format!("{module}::{test}"),
        None => test.to_owned(),
    };
    let mut again = Command::new("unshare");
    again.arg("--net").arg(std::env::current_exe().unwrap());
    again.args(["--exact", &name, "--nocapture"]).env(INSIDE, "1");
    again.envs(environment.iter().map(|(name, value)| (*name, value)));
    let done = again.output().unwrap();
    let said =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    print!("{said}");
    false
}
