//! Claims go first: the preparation of machines waits while a claim is under way.
//!
//! A claim needs the processor and the host for a few milliseconds. A machine that is made or reset
//! at the same time takes all there is, and no run waits for it yet.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// The longest time that one step of a preparation waits: claims that never stop need machines too.
const PATIENCE: Duration = Duration::from_millis(200);

/// The number of claims between the moment when a machine is taken and the moment when it
/// acknowledges EXECUTE.
#[derive(Clone, Debug)]
pub struct ClaimGate(watch::Sender<usize>);

impl Default for ClaimGate {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl ClaimGate {
    /// A claim begins. It is under way until the guard is dropped.
    pub fn begin(&self) -> ClaimGuard {
        self.0.send_modify(|count| *count += 1);
        ClaimGuard(self.clone())
    }

    #[cfg(test)]
    pub fn any(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Returns when no claim is under way, or after a while.
    pub async fn pass(&self) {
        let mut watch = self.0.subscribe();
        // Both ends of the wait are fine.
        let _ = timeout(PATIENCE, watch.wait_for(|count| *count == 0)).await;
    }
}

/// A claim under way.
#[derive(Debug)]
pub struct ClaimGuard(ClaimGate);

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether there is nothing to wait for. No clock is asked: a busy host makes anything late.
    async fn at_once(claims: &ClaimGate) -> bool {
        tokio::select! {
            biased;
            () = claims.pass() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn preparation_waits_for_the_last_claim_but_not_for_ever() {
        let claims = ClaimGate::default();
        assert!(at_once(&claims).await);
        let (first, second) = (claims.begin(), claims.begin());
        drop(first);
        assert!(!at_once(&claims).await && claims.any());
        claims.pass().await;
        drop(second);
        assert!(at_once(&claims).await && !claims.any());
    }
}
