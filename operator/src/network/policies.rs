//! Whose policy is wanted and whose is in force. The host is told all of them at once, one caller at a time: who waits for its
//! turn finds that the one before has told its policy too.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use agentvm_core::network::Policy;
use agentvm_hypervisor::{HvError, Hypervisor};
use agentvm_types::OwnerUid;
use ipnet::IpNet;
use tokio::sync::Mutex as AsyncMutex;

type ByOwner = BTreeMap<OwnerUid, Policy>;

#[derive(Debug)]
pub struct Policies {
    hv: Arc<dyn Hypervisor>,
    never: Vec<IpNet>,
    wanted: Mutex<ByOwner>,
    state: Mutex<State>,
    turn: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// What the host was told last; nothing yet, or not known after a call that failed.
    told: Option<ByOwner>,
    /// The host is told even if there is nothing to tell. Where no machine has a network, it isn't asked for any.
    needed: bool,
}

impl Policies {
    pub fn new(hv: Arc<dyn Hypervisor>, never: Vec<IpNet>) -> Self {
        Self {
            hv,
            never,
            wanted: Mutex::default(),
            state: Mutex::default(),
            turn: AsyncMutex::default(),
        }
    }

    pub fn set(&self, owner_uid: &OwnerUid, policy: Policy) {
        lock(&self.wanted).insert(owner_uid.clone(), policy);
    }

    /// Whether there was one.
    pub fn remove(&self, owner_uid: &OwnerUid) -> bool {
        lock(&self.wanted).remove(owner_uid).is_some()
    }

    /// `connected`: there are machines with a network, so the host has to be told in any case.
    pub fn begin(&self, policies: ByOwner, connected: bool) {
        *lock(&self.wanted) = policies;
        lock(&self.state).told = None;
        lock(&self.state).needed = connected;
    }

    pub fn keep(&self, exists: impl Fn(&OwnerUid) -> bool) {
        lock(&self.wanted).retain(|uid, _| exists(uid));
    }

    pub fn resolvers(&self, owner_uid: &OwnerUid) -> Vec<Ipv4Addr> {
        lock(&self.wanted).get(owner_uid).map(|policy| policy.resolvers.clone()).unwrap_or_default()
    }

    pub fn in_force(&self, owner_uid: &OwnerUid) -> Option<i64> {
        Some(lock(&self.state).told.as_ref()?.get(owner_uid)?.generation)
    }

    /// Returns when what was wanted at the time of the call is in force.
    pub async fn settle(&self) -> Result<(), HvError> {
        let _turn = self.turn.lock().await;
        let wanted = lock(&self.wanted).clone();
        let settled = |state: &State| {
            state.told.as_ref().map_or(!state.needed && wanted.is_empty(), |told| *told == wanted)
        };
        if settled(&lock(&self.state)) {
            return Ok(());
        }
        let done = self.hv.apply_policies(wanted.clone(), self.never.clone()).await;
        // After an error nobody knows which of the two holds.
        *lock(&self.state) = State { told: done.is_ok().then_some(wanted), needed: true };
        done
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
