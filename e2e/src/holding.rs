//! Searches all files of an installation for a text.

use std::path::Path;
use std::process::Command;

use crate::{DataDir, Error};

/// The files of the installation that contain the text, one in each line. Two kinds of files are
/// left out: those of etcd, where Kubernetes keeps Secrets, and those of the image, which are older
/// than the text.
///
/// # Errors
/// The search must find a file that is put there for it. Otherwise it fails.
pub fn holding(dir: &DataDir, text: &str) -> Result<String, Error> {
    let control = dir.path().join("control");
    std::fs::write(&control, text)?;
    let mut grep = Command::new("grep");
    // Without `--text`, grep also looks through binary files, but skips gigabytes of holes.
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
