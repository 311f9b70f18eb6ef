//! The objects that are worth another look. Nothing in this folder calls back into a controller.

use agentvm_types::{PoolUid, RunUid};
use tokio::sync::mpsc;

/// An object whose machines changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Pool { uid: PoolUid },
    Run { uid: RunUid },
}

/// The way of events to the controllers.
#[derive(Debug)]
pub struct Events(pub mpsc::UnboundedSender<Event>);

impl Events {
    /// Says that a pool is worth another look.
    pub fn pool(&self, uid: &PoolUid) {
        self.send(Event::Pool { uid: uid.clone() });
    }

    /// Says that a run is worth another look.
    pub fn run(&self, uid: &RunUid) {
        self.send(Event::Run { uid: uid.clone() });
    }

    fn send(&self, event: Event) {
        // The receiver is gone only when the operator stops.
        let _ = self.0.send(event);
    }
}
