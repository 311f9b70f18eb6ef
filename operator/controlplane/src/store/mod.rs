//! Keeps the store healthy. etcd keeps every revision of every object until it is compacted. Its
//! file never shrinks by itself. When the file reaches the quota, etcd refuses writes until its
//! alarm is cleared.
//!
//! ```text
//!   look ─► chores::next ─► compact ─► look ─► defragment ─► look ─► clear the alarm ─► pause
//! ```

mod chores;
mod client;

use std::time::Duration;

use kube::config::Config as ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use chores::{Chore, Looked};
use client::{EtcdClient, StoreError};

/// The longest wait for one answer. To defragment a full store takes seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// The space that the store takes, against its quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// The size of the file.
    pub file_bytes: u64,
    /// The part of the file that has data, old revisions included.
    pub used_bytes: u64,
    pub quota_bytes: u64,
    /// The store refuses writes.
    pub full: bool,
}

impl StoreUsage {
    /// More than half of the quota has data that compaction could not remove.
    pub fn is_half_full(&self) -> bool {
        self.used_bytes > self.quota_bytes / 2
    }
}

/// The task that keeps the store healthy. It ends when this is dropped.
#[derive(Debug)]
pub struct Housekeeper {
    usage: watch::Receiver<StoreUsage>,
    task: JoinHandle<()>,
}

impl Housekeeper {
    pub fn start(etcd: &ClientConfig, quota_bytes: u64, pause: Duration) -> Self {
        let (said, usage) = watch::channel(StoreUsage { quota_bytes, ..StoreUsage::default() });
        let task = tokio::spawn(keep(etcd.clone(), said, pause));
        Self { usage, task }
    }

    /// The usage at the last look, and each change.
    pub fn usage(&self) -> watch::Receiver<StoreUsage> {
        self.usage.clone()
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(etcd: ClientConfig, said: watch::Sender<StoreUsage>, pause: Duration) {
    let mut earlier = 0;
    loop {
        match timeout(PATIENCE, round(&etcd, &said, earlier)).await {
            Ok(Ok(revision)) => earlier = revision,
            // etcd may be restarting.
            Ok(Err(why)) => tracing::debug!(
                error = &why as &dyn std::error::Error,
                "the store was not looked after this time"
            ),
            Err(_) => tracing::warn!("the store did not answer for {PATIENCE:?}"),
        }
        sleep(pause).await;
    }
}

/// Looks, and does what is due. Returns the revision of the look.
async fn round(
    etcd: &ClientConfig,
    said: &watch::Sender<StoreUsage>,
    earlier: u64,
) -> Result<u64, StoreError> {
    let client = EtcdClient::new(etcd.clone())?;
    let quota_bytes = said.borrow().quota_bytes;
    let mut done: Option<Chore> = None;
    loop {
        let looked = client.look().await?;
        let usage = tell(said, &looked, quota_bytes);
        let Some(chore) = chores::next(&looked, quota_bytes, earlier, done) else {
            return Ok(looked.revision);
        };
        tracing::info!(?chore, ?usage, "housekeeping in the store");
        match chore {
            Chore::Compact { revision } => client.compact(revision).await?,
            Chore::Defragment => client.defragment().await?,
            Chore::ClearAlarm => client.clear_alarm(&looked).await?,
        }
        done = Some(chore);
    }
}

/// Says the usage, and warns once when a border is crossed.
fn tell(said: &watch::Sender<StoreUsage>, looked: &Looked, quota_bytes: u64) -> StoreUsage {
    let usage = StoreUsage {
        file_bytes: looked.file_bytes,
        used_bytes: looked.used_bytes,
        quota_bytes,
        full: looked.alarm,
    };
    let before = *said.borrow();
    if usage.full && !before.full {
        tracing::error!(?usage, "the store is full and refuses writes; making room");
    } else if before.full && !usage.full {
        tracing::info!(?usage, "the store takes writes again");
    } else if usage.is_half_full() && !before.is_half_full() {
        tracing::warn!(
            ?usage,
            "the store is more than half full: delete finished runs, or give them a shorter \
             spec.ttlSecondsAfterFinished"
        );
    }
    said.send_if_modified(|now| std::mem::replace(now, usage) != usage);
    usage
}
