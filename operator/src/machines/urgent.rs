//! Claims go first: what prepares machines lets them pass.
//!
//! A claim needs a few milliseconds of CPU and host; a machine that is made or reset at the same time needs all there is, and
//! nobody waits for it yet.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// The longest that one piece of preparation waits: claims that never stop coming need machines too.
const PATIENCE: Duration = Duration::from_millis(200);

/// How many claims are between being taken and being acknowledged by their machine.
#[derive(Clone, Debug)]
pub struct Claims(watch::Sender<usize>);

impl Default for Claims {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Claims {
    /// One more, until it is dropped.
    pub fn begin(&self) -> Claiming {
        self.0.send_modify(|count| *count += 1);
        Claiming(self.clone())
    }

    #[cfg(test)]
    pub fn any(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Returns when there is none, or after a while.
    pub async fn pass(&self) {
        let mut watch = self.0.subscribe();
        // Both ends of the wait are fine.
        let _ = timeout(PATIENCE, watch.wait_for(|count| *count == 0)).await;
    }
}

/// A claim under way.
#[derive(Debug)]
pub struct Claiming(Claims);

impl Drop for Claiming {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether there is nothing to wait for. No clock tells: a busy host makes anything late.
    async fn at_once(claims: &Claims) -> bool {
        tokio::select! {
            biased;
            () = claims.pass() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn preparation_waits_for_the_last_claim_but_not_for_ever() {
        let claims = Claims::default();
        assert!(at_once(&claims).await);
        let (first, second) = (claims.begin(), claims.begin());
        drop(first);
        assert!(!at_once(&claims).await && claims.any());
        claims.pass().await;
        drop(second);
        assert!(at_once(&claims).await && !claims.any());
    }
}
