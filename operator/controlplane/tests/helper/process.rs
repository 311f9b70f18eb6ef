//! Runs a control plane in the given data folder until it is killed. Tests use it to look for
//! processes that outlive it.

use std::error::Error;
use std::path::Path;

use agentvm_controlplane::{Binaries, Config, ControlPlane, Durability};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data_dir = std::env::args_os().nth(1).ok_or("usage: controlplane-for-tests DATA_DIR")?;
    // A program has no access to the crate of the tests, which has such a configuration too.
    let usual = Config::new(Path::new(&data_dir), Binaries::find(None)?);
    let config = Config { preferred_port: None, durability: Durability::UnsafeNoFsync, ..usual };
    let control_plane = ControlPlane::start(config).await?;
    println!("ready");
    std::future::pending::<()>().await;
    drop(control_plane);
    Ok(())
}
