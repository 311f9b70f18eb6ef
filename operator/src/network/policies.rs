//! The policies that the owners of machines want. The host is given all of them once, when it is
//! taken over, and each changed one alone from then on, by one caller at a time. An owner whose
//! policy fails hears of it itself; the others go on.
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

use agentvm_core::network::{Policy, check_node_elements};
use agentvm_hypervisor::{HvError, Hypervisor, RefusedPolicies};
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

    /// Wants this policy for an owner. The error says that the node's policies together would be
    /// too large; then the earlier one stays.
    pub fn insert(&self, owner_uid: &OwnerUid, policy: Policy) -> Result<(), HvError> {
        let mut wanted = self.wanted();
        let others = wanted.iter().filter(|(owner, _)| *owner != owner_uid);
        let taken: usize = others.map(|(_, policy)| policy.elements()).sum();
        check_node_elements(taken, &policy).map_err(|detail| HvError::NetworkUnavailable {
            what: "put the pool's network into force".to_owned(),
            detail,
        })?;
        wanted.insert(owner_uid.clone(), policy);
        Ok(())
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

    pub fn owners(&self) -> Vec<OwnerUid> {
        self.wanted().keys().cloned().collect()
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

    /// Returns when the owner's policy is the one that was wanted at the time of the call.
    pub async fn settle(&self, owner_uid: &OwnerUid) -> Result<(), HvError> {
        let _turn = self.turn.lock().await;
        if let Some(mut refused) = self.take_over().await? {
            return refused.remove(owner_uid).map_or(Ok(()), Err);
        }
        self.settle_one(owner_uid).await
    }

    /// Returns when the owners without a policy have none. Everything is tried, also after a
    /// failure.
    pub async fn settle_gone(&self) -> Result<(), HvError> {
        let _turn = self.turn.lock().await;
        if self.take_over().await?.is_some() {
            return Ok(());
        }
        let gone: Vec<OwnerUid> = {
            let (in_force, wanted) = (self.in_force().unwrap_or_default(), self.wanted());
            in_force.keys().filter(|owner| !wanted.contains_key(*owner)).cloned().collect()
        };
        let mut done = Ok(());
        for owner in gone {
            done = done.and(self.settle_one(&owner).await);
        }
        done
    }

    /// Gives the host all policies, if it has not been given any since it was taken over.
    async fn take_over(&self) -> Result<Option<RefusedPolicies>, HvError> {
        let Some(wanted) = self.to_apply() else { return Ok(None) };
        self.needed.store(true, Ordering::Release);
        let refused = self.hv.apply_policies(wanted, self.deny_list.clone()).await?;
        self.stale.store(false, Ordering::Release);
        Ok(Some(refused))
    }

    async fn settle_one(&self, owner_uid: &OwnerUid) -> Result<(), HvError> {
        let Some(in_force) = self.in_force() else { return Ok(()) };
        let wanted = self.wanted().get(owner_uid).cloned();
        if in_force.get(owner_uid) == wanted.as_ref() {
            return Ok(());
        }
        self.hv.apply_policy(owner_uid, wanted).await
    }

    /// `None`: the host was given all policies before, or has none and needs none.
    fn to_apply(&self) -> Option<ByOwner> {
        let (in_force, wanted) = (self.in_force(), self.wanted());
        let settled =
            in_force.is_some() || (wanted.is_empty() && !self.needed.load(Ordering::Acquire));
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
    use agentvm_core::network::{Allow, NODE_ELEMENTS, POOL_ELEMENTS, Protocol};
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
        policies.settle(&pool).await.unwrap();
        assert_eq!(calls(), 0, "a host without a network isn't asked for one");
        policies.insert(&pool, policy(1)).unwrap();
        fake.faults().next(Op::ApplyPolicies, Fault::Fail(refused()));
        policies.settle(&pool).await.unwrap_err();
        assert_eq!((calls(), policies.generation_in_force(&pool)), (1, None));
        policies.settle(&pool).await.unwrap();
        policies.settle(&pool).await.unwrap();
        assert_eq!((calls(), policies.generation_in_force(&pool)), (2, Some(1)));
        policies.insert(&pool, policy(2)).unwrap();
        assert_eq!(policies.generation_in_force(&pool), Some(1), "the host says so");
        policies.replace([(pool.clone(), policy(1))].into(), true);
        assert_eq!(policies.generation_in_force(&pool), None, "they are from before");
        policies.settle(&pool).await.unwrap();
        assert_eq!((calls(), policies.generation_in_force(&pool)), (3, Some(1)));
        policies.retain(|_| false);
        policies.settle_gone().await.unwrap();
        policies.settle_gone().await.unwrap();
        assert_eq!((calls(), policies.generation_in_force(&pool)), (4, None));
    }

    fn refused() -> HvError {
        HvError::Refused { what: "set the rules".into(), detail: "no".into() }
    }

    #[tokio::test]
    async fn one_owners_failure_is_not_tried_again_or_told_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Arc::new(FakeHypervisor::open(folder.path(), "/nonexistent".into()));
        let policies = Policies::new(fake.clone(), vec![]);
        let [one, other] = ["one", "other"].map(OwnerUid::new);
        for pool in [&one, &other] {
            policies.insert(pool, policy(1)).unwrap();
            policies.settle(pool).await.unwrap();
        }
        policies.insert(&one, policy(2)).unwrap();
        fake.faults().next(Op::ApplyPolicies, Fault::Fail(refused()));
        policies.settle(&one).await.unwrap_err();
        let calls = || fake.faults().calls(Op::ApplyPolicies);
        let before = calls();
        policies.settle(&other).await.unwrap();
        assert_eq!(calls(), before, "the host is not asked for the one that failed");
        assert_eq!(policies.generation_in_force(&one), Some(1), "the earlier one holds");
        policies.insert(&other, policy(2)).unwrap();
        policies.settle(&other).await.unwrap();
        assert_eq!(policies.generation_in_force(&other), Some(2));
        policies.settle(&one).await.unwrap();
        assert_eq!(policies.generation_in_force(&one), Some(2));
    }

    #[test]
    fn a_node_takes_so_many_elements_and_the_message_names_the_field() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Arc::new(FakeHypervisor::open(folder.path(), "/nonexistent".into()));
        let policies = Policies::new(fake, vec![]);
        let allow = Allow {
            protocol: Protocol::Tcp,
            ports: Vec::new(),
            cidrs: vec!["203.0.113.0/24".parse().unwrap(); POOL_ELEMENTS],
        };
        let full = Policy { allow: vec![allow], ..policy(1) };
        for pool in 0..NODE_ELEMENTS / POOL_ELEMENTS {
            policies.insert(&OwnerUid::new(format!("pool-{pool}")), full.clone()).unwrap();
        }
        let late = OwnerUid::new("late");
        let why = policies.insert(&late, full.clone()).unwrap_err().to_string();
        assert!(why.contains("spec.network.allow"), "{why}");
        policies.insert(&OwnerUid::new("pool-0"), policy(2)).unwrap();
        policies.insert(&late, full).unwrap();
    }
}
