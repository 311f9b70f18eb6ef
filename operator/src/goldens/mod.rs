//! The goldens of this node: the whole ones, those in capture, and the failed ones with the time of
//! the next try.
//!
//! A few captures run at a time, in turns that are fair to namespaces ([`Turns`]). A setup that
//! failed is its namespace's failure: another namespace with the same recipe gets a try of its own.

mod capture;
mod image;
mod setup;
mod steady;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agentvm_core::{
    backoff::Backoff,
    golden::{self, Asker, DeviceLayout, KeyFacts, Local, Recipe, Ticket, Turns},
    names::{GoldenKey, InstanceId},
    network::Policy,
};
use agentvm_crds::GoldenReason;
use agentvm_hypervisor::{Accelerator, Golden, HostFacts, HvError, Hypervisor};
use agentvm_types::{OwnerUid, report};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{clock::Clock, network::Network};

pub use capture::CaptureError;
pub use image::{ImageError, image_digest};

/// Settings of all captures on this node.
#[derive(Clone, Debug)]
pub struct Config {
    pub instance: InstanceId,
    /// Folder with `image.json`, root filesystem, kernel and initrd of the default guest.
    pub image: PathBuf,
    /// Folder of the root filesystems that users may name.
    pub images_folder: Option<PathBuf>,
    /// Digest of the default guest image: another image makes other goldens.
    pub image_digest: String,
    /// The policy for the network of setups.
    pub setup_policy: Policy,
    /// The time of all steps of a setup together.
    pub setup_limit: Duration,
    /// See [`LINGER`].
    pub linger: Duration,
    pub clock: Clock,
}

/// The time for which a golden is kept whose snapshot exists but whose layout no pool needs. A pool
/// that is made again, or is changed back, finds it.
pub const LINGER: Duration = Duration::from_mins(1);

/// A wanted golden.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub recipe: Recipe,
    pub layout: DeviceLayout,
    pub key: GoldenKey,
}

/// The object that a golden is captured for.
#[derive(Clone, Debug)]
pub struct Owner {
    pub namespace: String,
    pub name: String,
    pub uid: OwnerUid,
}

#[derive(Debug, Default)]
struct State {
    whole: HashMap<GoldenKey, Golden>,
    work: HashMap<GoldenKey, Local>,
    failures: HashMap<GoldenKey, u32>,
    /// Setups that failed, and are not tried again, by the namespace that asked.
    refused: HashMap<(GoldenKey, String), Local>,
    /// The moment since when no pool needs it.
    idle: HashMap<GoldenKey, Instant>,
}

#[derive(Debug)]
struct Inner {
    hv: Arc<dyn Hypervisor>,
    network: Network,
    config: Config,
    state: Mutex<State>,
    turns: Mutex<Turns>,
    /// A capture began or ended.
    turned: Notify,
    /// UIDs of objects that are worth another look.
    events: mpsc::UnboundedSender<OwnerUid>,
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, key: &GoldenKey, owner: &Owner, local: Local) {
        self.state().work.insert(key.clone(), local);
        let _ = self.events.send(owner.uid.clone());
    }
}

/// The place of one capture among the others. It is free again when this is dropped.
struct Turn<'a> {
    inner: &'a Inner,
    ticket: Ticket,
}

impl<'a> Turn<'a> {
    fn ask(inner: &'a Inner, owner: &Owner) -> Self {
        let asker = Asker { namespace: owner.namespace.clone(), owner_uid: owner.uid.clone() };
        Self { inner, ticket: inner.turns().ask(asker) }
    }

    async fn begin(&self) {
        loop {
            let turned = self.inner.turned.notified();
            tokio::pin!(turned);
            // A change from here on is not missed.
            turned.as_mut().enable();
            if self.inner.turns().begin(self.ticket) {
                self.inner.turned.notify_waiters();
                return;
            }
            turned.await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.inner.turns().end(self.ticket);
        self.inner.turned.notify_waiters();
    }
}

/// The handle that controllers use.
#[derive(Clone, Debug)]
pub struct Goldens {
    inner: Arc<Inner>,
}

impl Goldens {
    pub fn new(
        hv: Arc<dyn Hypervisor>,
        network: Network,
        config: Config,
        events: mpsc::UnboundedSender<OwnerUid>,
    ) -> Self {
        let (turns, turned) = (Mutex::default(), Notify::new());
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let inner = Inner {
            hv,
            network,
            config,
            state: Mutex::default(),
            turns,
            turned,
            events,
            tasks,
            end,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Reads the whole goldens of this host.
    pub async fn refresh(&self) -> Result<Vec<Golden>, HvError> {
        let goldens = self.inner.hv.goldens().await?;
        self.inner.state().whole = goldens.iter().map(|g| (g.key.clone(), g.clone())).collect();
        Ok(goldens)
    }

    /// All things that the files of a golden depend on.
    pub fn key(&self, recipe: &Recipe, layout: DeviceLayout, facts: &HostFacts) -> GoldenKey {
        let accelerator = match facts.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg { .. } => "tcg",
        };
        let facts = KeyFacts {
            image_digest: &self.inner.config.image_digest,
            layout,
            qemu_version: &facts.qemu_version,
            libvirt_version: &facts.libvirt_version,
            kernel_version: &facts.kernel_version,
            accelerator,
            cpu_model: &facts.cpu_model,
        };
        golden::key(recipe, &facts)
    }

    pub fn get(&self, key: &GoldenKey) -> Option<Golden> {
        self.inner.state().whole.get(key).cloned()
    }

    /// The state of a golden as objects of this namespace have to see it.
    pub fn local(&self, key: &GoldenKey, namespace: &str) -> Local {
        let state = self.inner.state();
        if state.whole.contains_key(key) {
            return Local::Ready;
        }
        let refused = || state.refused.get(&(key.clone(), namespace.to_owned())).cloned();
        state.work.get(key).cloned().or_else(refused).unwrap_or(Local::Absent)
    }

    /// Forgets the failures of goldens that are not wanted any more. A later request for the same
    /// golden gets another try.
    pub fn forget_failures(&self, wanted: &HashSet<GoldenKey>) {
        let mut state = self.inner.state();
        state
            .work
            .retain(|key, local| wanted.contains(key) || !matches!(local, Local::Failed { .. }));
        state.failures.retain(|key, _| wanted.contains(key));
        state.refused.retain(|(key, _), _| wanted.contains(key));
    }

    /// Whole goldens to remove. Those in `needed` stay. Those in `known` stay for a while: their
    /// snapshots might be asked for these layouts again.
    pub fn leaving(
        &self,
        needed: &HashSet<GoldenKey>,
        known: &HashSet<GoldenKey>,
    ) -> Vec<GoldenKey> {
        let now = self.inner.config.clock.instant();
        let State { whole, idle, .. } = &mut *self.inner.state();
        idle.retain(|key, _| whole.contains_key(key) && !needed.contains(key));
        let unneeded = whole.keys().filter(|key| !needed.contains(*key));
        let over = |key: &GoldenKey, since: Instant| {
            !known.contains(key) || now >= since + self.inner.config.linger
        };
        unneeded
            .filter(|key| over(key, *idle.entry((*key).clone()).or_insert(now)))
            .cloned()
            .collect()
    }

    /// Removes a golden that is not needed any more.
    pub async fn remove(&self, key: &GoldenKey) -> Result<(), HvError> {
        let removed = self.inner.state().whole.remove(key);
        self.inner.hv.remove_golden(key).await?;
        if let Some(golden) = removed {
            let _ = self.inner.events.send(golden.owner_uid);
        }
        Ok(())
    }

    /// Starts a capture, or queues it behind the current ones.
    pub fn capture(&self, owner: Owner, wanted: Wanted) {
        let (inner, key) = (self.inner.clone(), wanted.key.clone());
        inner.set(&key, &owner, Local::Queued);
        self.inner.tasks.spawn(async move {
            let turn = Turn::ask(&inner, &owner);
            if inner.end.run_until_cancelled(turn.begin()).await.is_none() {
                return;
            }
            let started = inner.config.clock.instant();
            let Some(done) =
                inner.end.run_until_cancelled(capture::capture(&inner, &owner, &wanted)).await
            else {
                return;
            };
            match done {
                Ok(golden) => {
                    let seconds = (inner.config.clock.instant() - started).as_secs_f64();
                    let layout = wanted.layout.as_str();
                    tracing::info!(golden = %owner.name, layout, key = %key, seconds, "captured");
                    let mut state = inner.state();
                    state.work.remove(&key);
                    state.failures.remove(&key);
                    state.refused.retain(|(refused, _), _| *refused != key);
                    state.whole.insert(key.clone(), golden);
                }
                Err(why) => inner.note_failure(&key, &owner, &why),
            }
            let _ = inner.events.send(owner.uid.clone());
        });
    }

    /// Ends all captures. The one under way is given up, and its template is removed by
    /// [`crate::machines::Machines::end_all`] or by the next start.
    pub async fn close(&self) {
        self.inner.end.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    fn note_failure(&self, key: &GoldenKey, owner: &Owner, why: &CaptureError) {
        let message = report(why);
        tracing::warn!(golden = %owner.name, key = %key, "the capture failed: {message}");
        let mut state = self.state();
        let failures = state.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let delay = Backoff::MACHINE.after(*failures, key.as_str());
        let reason = why.reason();
        // A setup that failed fails again: only another snapshot helps. But it may have failed for
        // a passing reason, so another namespace tries it once more.
        if reason == GoldenReason::SetupFailed {
            state.work.remove(key);
            let refused = Local::Failed { reason, message, retry_at: None };
            state.refused.insert((key.clone(), owner.namespace.clone()), refused);
            return;
        }
        let retry_at = self.config.clock.now().checked_add(delay).ok();
        state.work.insert(key.clone(), Local::Failed { reason, message, retry_at });
    }
}
