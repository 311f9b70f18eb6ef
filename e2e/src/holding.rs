//! Whether a text is in any file of an installation.

use std::path::Path;
use std::process::Command;

use crate::{DataDir, Error};

/// Files of the installation that have the text in them, one in each line; but for etcd's, where Kubernetes keeps Secrets, and the image's,
/// which are older than the text.
///
/// # Errors
/// Where the search doesn't find what it has to: a file that is put there for it.
pub fn holding(dir: &DataDir, text: &str) -> Result<String, Error> {
    let control = dir.path().join("control");
    std::fs::write(&control, text)?;
    let mut grep = Command::new("grep");
    // Not `--text`: what isn't text is looked through as well, without the gigabytes that are holes.
    grep.env("LC_ALL", "C").args([
        "--recursive",
        "--files-with-matches",
        "--fixed-strings",
        "--devices=skip",
    ]);
    grep.args([
        "--exclude-dir=etcd",
        "--exclude=rootfs.raw",
        "--exclude=initrd.img",
        "--regexp",
        text,
    ]);
    let found = String::from_utf8(grep.arg(dir.path()).arg(dir.log()).output()?.stdout)?;
    std::fs::remove_file(&control)?;
    let (controls, found): (Vec<_>, Vec<_>) =
        found.lines().partition(|line| Path::new(line) == control);
    crate::ensure!(controls.len() == 1, "the search works");
    Ok(found.join("\n"))
}
