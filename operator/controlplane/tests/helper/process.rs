//! Runs a control plane in the given data folder until it is killed. Tests use it to look for
//! processes that outlive it.

use std::error::Error;
use std::path::Path;

use agentvm_controlplane::{ControlPlane, test_support};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data_dir = std::env::args_os().nth(1).ok_or("usage: controlplane-for-tests DATA_DIR")?;
    let control_plane = ControlPlane::start(test_support::config(Path::new(&data_dir))?).await?;
    println!("ready");
    std::future::pending::<()>().await;
    drop(control_plane);
    Ok(())
}
