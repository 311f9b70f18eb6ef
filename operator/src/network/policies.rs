//! The policies that the owners of machines want. The host is given all of them at once, by one
//! caller at a time: a caller that waited finds that the one before applied its policy too.
//!
//! The host says which policies are in force; nothing here remembers it.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
    deny_list: Vec<IpNet>,
    wanted: Mutex<ByOwner>,
    /// The policies in force are from before the host was taken over, so they are applied again.
    stale: AtomicBool,
    /// The host must be given the policies even if there are none. It is `false` on a host that
    /// never had a policy or a machine with a network.
    needed: AtomicBool,
    turn: AsyncMutex<()>,
}

impl Policies {
    pub fn new(hv: Arc<dyn Hypervisor>, deny_list: Vec<IpNet>) -> Self {
        Self {
            hv,
            deny_list,
            wanted: Mutex::default(),
            stale: AtomicBool::default(),
            needed: AtomicBool::default(),
            turn: AsyncMutex::default(),
        }
    }

    pub fn insert(&self, owner_uid: &OwnerUid, policy: Policy) {
        self.wanted().insert(owner_uid.clone(), policy);
    }

    /// Removes the policy of an owner. `false`: there was none.
    pub fn remove(&self, owner_uid: &OwnerUid) -> bool {
        self.wanted().remove(owner_uid).is_some()
    }

    /// Replaces all of them, when the host is taken over. `connected`: there are machines with a
    /// network, so the host must be given the policies in any case.
    pub fn replace(&self, policies: ByOwner, connected: bool) {
        *self.wanted() = policies;
        self.stale.store(true, Ordering::Release);
        self.needed.store(connected, Ordering::Release);
    }

    pub fn retain(&self, exists: impl Fn(&OwnerUid) -> bool) {
        self.wanted().retain(|uid, _| exists(uid));
    }

    pub fn resolvers(&self, owner_uid: &OwnerUid) -> Vec<Ipv4Addr> {
        self.wanted().get(owner_uid).map(|policy| policy.resolvers.clone()).unwrap_or_default()
    }

    /// The generation of the owner's policy that is in force.
    pub fn generation_in_force(&self, owner_uid: &OwnerUid) -> Option<i64> {
        Some(self.in_force()?.get(owner_uid)?.generation)
    }

    /// Returns when the policies that were wanted at the time of the call are in force.
    pub async fn settle(&self) -> Result<(), HvError> {
        let _turn = self.turn.lock().await;
        let Some(wanted) = self.to_apply() else { return Ok(()) };
        self.needed.store(true, Ordering::Release);
        self.hv.apply_policies(wanted, self.deny_list.clone()).await?;
        self.stale.store(false, Ordering::Release);
        Ok(())
    }

    /// `None`: the wanted policies are in force.
    fn to_apply(&self) -> Option<ByOwner> {
        let (in_force, wanted) = (self.in_force(), self.wanted());
        let settled = match in_force {
            Some(in_force) => *in_force == *wanted,
            None => wanted.is_empty() && !self.needed.load(Ordering::Acquire),
        };
        (!settled).then(|| wanted.clone())
    }

    fn in_force(&self) -> Option<Arc<ByOwner>> {
        let in_force = self.hv.policies_in_force()?;
        (!self.stale.load(Ordering::Acquire)).then_some(in_force)
    }

    fn wanted(&self) -> MutexGuard<'_, ByOwner> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use agentvm_core::defaults::Defaults;
    use agentvm_hypervisor::fake::{FakeHypervisor, Fault, Op};

    use super::*;

    fn policy(generation: i64) -> Policy {
        let (defaults, profile) = (Defaults::default(), agentvm_crds::Profile::Standard);
        agentvm_core::network::policy(None, None, generation, &defaults, profile).unwrap()
    }

    #[tokio::test]
    async fn the_host_is_given_policies_that_are_not_in_force_and_only_those() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Arc::new(FakeHypervisor::open(folder.path(), "/nonexistent".into()));
        let policies = Policies::new(fake.clone(), vec![]);
        let pool = OwnerUid::new("pool");
        let calls = || fake.faults().calls(Op::ApplyPolicies);
        policies.settle().await.unwrap();
        assert_eq!(calls(), 0, "a host without a network isn't asked for one");
        policies.insert(&pool, policy(1));
        let refused = HvError::Refused { what: "set the rules".into(), detail: "no".into() };
        fake.faults().next(Op::ApplyPolicies, Fault::Fail(refused));
        policies.settle().await.unwrap_err();
        assert_eq!((calls(), policies.generation_in_force(&pool)), (1, None));
        policies.settle().await.unwrap();
        policies.settle().await.unwrap();
        assert_eq!((calls(), policies.generation_in_force(&pool)), (2, Some(1)));
        policies.insert(&pool, policy(2));
        assert_eq!(policies.generation_in_force(&pool), Some(1), "the host says so");
        policies.replace([(pool.clone(), policy(1))].into(), true);
        assert_eq!(policies.generation_in_force(&pool), None, "they are from before");
        policies.settle().await.unwrap();
        assert_eq!((calls(), policies.generation_in_force(&pool)), (3, Some(1)));
        policies.retain(|_| false);
        policies.settle().await.unwrap();
        policies.settle().await.unwrap();
        assert_eq!((calls(), policies.generation_in_force(&pool)), (4, None));
    }
}
