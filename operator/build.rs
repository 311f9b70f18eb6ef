//! Passes the commit of the source to `agentvm version`. Works without git and from a tarball.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=AGENTVM_COMMIT");
    println!("cargo::rustc-env=AGENTVM_COMMIT={}", commit());
}

/// The commit that the packager names, or else git's. A development build doesn't ask git, because
/// it would be compiled again after each commit.
fn commit() -> String {
    if let Ok(given) = std::env::var("AGENTVM_COMMIT")
        && !given.is_empty()
    {
        return given;
    }
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        return "development build".to_owned();
    }
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"])
        && std::path::Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

fn git(args: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
