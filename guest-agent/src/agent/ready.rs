//! A launcher that waits in its surroundings, made while the machine is prepared. So EXECUTE only
//! has to name the command.

use std::time::Duration;

use agentvm_guest_agent::protocol::Execute;
use tokio::time::{Instant, sleep, timeout};

use crate::attempt::Attempt;
use crate::cgroup::CgroupError;
use crate::launch::{LaunchError, Launched, launch};
use crate::platform::{Platform, PlatformError};
use crate::scope::Scope;

/// The time that the surroundings may take. Emulated and cold, they need a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// The time that an unused launcher may take to go.
const END: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(1);

/// Why nothing could be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the surroundings could not be made")]
    Platform(#[source] PlatformError),
    #[error("the processes could not be limited")]
    Limit(#[source] CgroupError),
    #[error("the command could not be started")]
    Launch(#[source] LaunchError),
    #[error("what belongs to a start did not happen within {} s", .0.as_secs())]
    Late(Duration),
}

/// A waiting launcher, and the handle on all processes that it will start. Dropping it ends it.
#[derive(Debug)]
pub struct Ready {
    scope: Scope,
    launched: Launched,
}

impl Ready {
    /// Starts the launcher and doesn't wait for it.
    pub fn start(platform: &Platform) -> Result<Self, StartError> {
        let (isolation, scope) = platform.surroundings().map_err(StartError::Platform)?;
        let launched = launch(isolation.as_ref()).map_err(StartError::Launch)?;
        Ok(Self { scope, launched })
    }

    /// Starts the launcher and waits until it waits.
    pub async fn parked(platform: &Platform) -> Result<Self, StartError> {
        let mut ready = Self::start(platform)?;
        let waited = timeout(PATIENCE, ready.launched.ready()).await;
        waited.map_err(|_| StartError::Late(PATIENCE))?.map_err(StartError::Launch)?;
        Ok(ready)
    }

    /// Whether a parked one is still there.
    pub fn is_waiting(&self) -> bool {
        self.launched.is_waiting()
    }

    /// Gives it its command.
    pub fn execute(mut self, platform: &Platform, order: &Execute) -> Result<Attempt, StartError> {
        self.scope.limit(order.max_processes).map_err(StartError::Limit)?;
        self.launched.start(&platform.spec(order)).map_err(StartError::Launch)?;
        Ok(Attempt::new(order, self.scope, self.launched))
    }

    /// Ends it, and waits until it has let go of its resources (for example the share).
    pub async fn discard(self) {
        let Self { scope, launched } = self;
        scope.kill();
        drop(launched);
        let deadline = Instant::now() + END;
        while !scope.is_empty() && Instant::now() < deadline {
            sleep(TICK).await;
        }
    }
}
