//! Ends this node's attempts before others may run them: see `agentvm_core::node::LeaseTimes`.

use std::time::Duration;

use agentvm_core::node::Standing;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::machines::Machines;

/// The pause between two tries to end machines.
const AGAIN: Duration = Duration::from_millis(500);

/// Follows the standing for ever.
pub async fn fence(machines: Machines, mut standing: watch::Receiver<Standing>) {
    loop {
        let now = *standing.borrow_and_update();
        match now {
            Standing::Held | Standing::Doubtful => {}
            Standing::Lost => machines.stop_all(),
            Standing::Over => {
                machines.stop_all();
                if machines.kill_attempts().await > 0 {
                    sleep(AGAIN).await;
                    continue;
                }
            }
        }
        if standing.changed().await.is_err() {
            return;
        }
    }
}
