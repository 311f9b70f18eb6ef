//! A container of the guest's root filesystem, on hosts with `runc`. Most people isolate runs with
//! containers today.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use super::error::{BenchError, step};
use super::lab::Lab;
use super::product::Laps;
use super::rounds::{Contender, Round};

/// A bundle; unmounted when this is dropped.
#[derive(Debug)]
pub struct Container {
    bundle: PathBuf,
    next: usize,
}

impl Container {
    /// A bundle whose root is the image, read-only. The inner error is the reason why there is no
    /// bundle.
    pub async fn find(lab: &Lab) -> Result<Result<Self, String>, BenchError> {
        if Command::new("runc").arg("--version").stdout(Stdio::null()).status().await.is_err() {
            return Ok(Err("runc isn't installed".to_owned()));
        }
        let bundle = lab.folder.join("bundle");
        let root = bundle.join("rootfs");
        std::fs::create_dir_all(&root).map_err(step("make a bundle"))?;
        let mounted = Command::new("mount")
            .args(["-o", "loop,ro"])
            .arg(rootfs(&lab.image)?)
            .arg(&root)
            .output()
            .await;
        let mounted = mounted.map_err(step("mount the root filesystem"))?;
        if !mounted.status.success() {
            return Ok(Err(format!("mount: {}", String::from_utf8_lossy(&mounted.stderr).trim())));
        }
        let container = Self { bundle, next: 0 };
        let text = config(&root).to_string();
        std::fs::write(container.bundle.join("config.json"), text)
            .map_err(step("write a bundle"))?;
        Ok(Ok(container))
    }
}

/// The file from which the guests' disks are made.
fn rootfs(image: &Path) -> Result<PathBuf, BenchError> {
    let text = std::fs::read(image.join("image.json")).map_err(step("read the guest image"))?;
    let manifest: Value = serde_json::from_slice(&text).map_err(step("read the guest image"))?;
    Ok(image.join(manifest["rootfs"]["file"].as_str().unwrap_or("rootfs.raw")))
}

/// A minimal configuration for `true`, with the usual namespaces.
fn config(root: &Path) -> Value {
    let namespaces: Vec<Value> =
        ["pid", "mount", "ipc", "uts", "network"].map(|kind| json!({"type": kind})).to_vec();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
        },
        "root": {"path": root, "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755", "size=65536k"],
            },
        ],
        "linux": {"namespaces": namespaces},
    })
}

#[async_trait::async_trait(?Send)]
impl Contender for Container {
    fn name(&self) -> &'static str {
        "runc"
    }

    async fn round(&mut self) -> Result<Round, BenchError> {
        self.next += 1;
        let id = format!("agentvm-bench-{}-{}", std::process::id(), self.next);
        let mut laps = Laps::start();
        let mut run = Command::new("runc");
        run.args(["run", "--bundle"]).arg(&self.bundle).arg(id).stdin(Stdio::null());
        let ran = run.output().await.map_err(step("start a container"))?;
        let took = laps.lap("run");
        if !ran.status.success() {
            let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
            return Err(BenchError::Found(format!("runc ended with {}: {said}", ran.status)));
        }
        Ok(laps.into_round().figure("succeeded", took))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let root = self.bundle.join("rootfs");
        if let Err(why) = rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH) {
            tracing::warn!(folder = %root.display(), %why, "could not unmount it");
        }
    }
}
