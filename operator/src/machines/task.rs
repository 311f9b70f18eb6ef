//! The task that owns one machine, from its creation to its end. The order of each `select!` is policy.

use std::{sync::Arc, time::Duration};

use agentvm_core::{
    retry::Backoff,
    run::{AttemptEnd, AttemptResult, FinishedAttempt, Outcome},
};
use agentvm_hypervisor::{MachineRecord, MachineSpec, PowerState, Stop};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    Event, Inner,
    attempt::{Attempt, GRACE, SLACK, stopped},
    board::{Command, SlotKey},
    finish::finish,
    life::Life,
    order::Order,
    prepare::{self, PrepareError},
    store::Store,
};

/// Where a machine comes from.
#[derive(Debug)]
pub enum Origin {
    /// To be made.
    Golden(Box<MachineSpec>),
    /// Found after a restart, claimed by nobody.
    FoundIdle,
    /// Found after a restart, claimed by a run that isn't over.
    FoundClaimed,
}

/// A machine and the world it lives in.
pub struct Task {
    pub inner: Arc<Inner>,
    pub key: SlotKey,
    pub record: MachineRecord,
    pub health_check: Duration,
    pub commands: mpsc::UnboundedReceiver<Command>,
}

impl Task {
    /// The whole life.
    pub async fn live(mut self, origin: Origin) {
        match self.prepare(origin).await {
            Ok(()) => {
                if let Some(order) = self.wait().await {
                    self.execute(&order).await;
                }
            }
            // Left by an operator that was killed: it tells nothing about the next machine.
            Err(why @ PrepareError::Used) => {
                tracing::info!(machine = %self.record.name, "a machine goes: {why}");
            }
            Err(why) => {
                let message = chain(&why);
                tracing::warn!(machine = %self.record.name, pool = %self.record.owner, "a machine could not be made: {message}");
                self.inner.board().note_trouble(&self.key.pool_uid, message, Timestamp::now());
            }
        }
        self.remove().await;
    }

    async fn prepare(&self, origin: Origin) -> Result<(), PrepareError> {
        let hv = &*self.inner.hv;
        match origin {
            Origin::Golden(spec) => {
                // Closed only when the operator stops; then nobody needs the machine.
                let _permit = self.inner.creation.acquire().await;
                prepare::create(hv, &spec).await?;
            }
            Origin::FoundIdle => prepare::recheck(hv, &self.record).await?,
            Origin::FoundClaimed => return Ok(()),
        }
        self.inner.board().set_idle(&self.key, Timestamp::now());
        self.tell_pool();
        Ok(())
    }

    /// Idle or claimed: until it is told to execute (then the order) or to end.
    async fn wait(&mut self) -> Option<Box<Order>> {
        let mut health = interval(self.health_check);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        health.tick().await;
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Drive(order)) => return Some(order),
                    Some(Command::Stop(_)) => {}
                    Some(Command::Release) | None => return None,
                },
                _ = health.tick() => {
                    if let Some(why) = self.unhealthy().await {
                        tracing::warn!(machine = %self.record.name, "an idle machine is lost: {why}");
                        // A run may have taken it since: then it finds out by itself.
                        if self.retire_if_idle() { return None; }
                    }
                }
            }
        }
    }

    /// Asked of QEMU, not of the guest.
    async fn unhealthy(&self) -> Option<String> {
        match self.inner.hv.state(&self.record.name).await {
            Ok(PowerState::Absent) => Some("its process is gone".to_owned()),
            Ok(PowerState::Dead { why }) => Some(why),
            // A host that doesn't answer says nothing about the machine.
            Ok(PowerState::Paused | PowerState::Running) | Err(_) => None,
        }
    }

    fn retire_if_idle(&self) -> bool {
        let mut board = self.inner.board();
        board.retire(&self.key.pool_uid, &[self.key.slot]);
        matches!(board.seen(&self.key.pool_uid).get(&self.key.slot), Some(agentvm_core::pool::SlotSeen::Ending))
    }

    async fn execute(&mut self, order: &Order) {
        let driven = Instant::now();
        let life = Life::Driven { run: order.run_uid.clone() };
        self.inner.board().set_life(&self.key, life);
        self.tell_pool();
        let Some(done) = self.drive(order, driven).await else { return };
        let life = Life::Ended { run: order.run_uid.clone(), done: Arc::new(done) };
        self.inner.board().set_life(&self.key, life);
        self.inner.tell(Event::Run { uid: order.run_uid.clone() });
        // The machine holds the result until it is durable elsewhere.
        while let Some(command) = self.commands.recv().await {
            if matches!(command, Command::Release) {
                return;
            }
        }
    }

    /// The end of the attempt; `None` when nobody wants to know it any more.
    async fn drive(&mut self, order: &Order, driven: Instant) -> Option<FinishedAttempt> {
        let inner = self.inner.clone();
        let hv = &*inner.hv;
        let store = match Store::open(&order.folder) {
            Ok(store) => store,
            Err(why) => {
                let message = format!("its folder {} could not be made: {why}", order.folder.display());
                return Some(not_started(AttemptEnd::GuestLost, message));
            }
        };
        let (tell_stop, stop) = watch::channel(None);
        let attempt = Attempt::new(hv, &self.record, order, store.clone(), stop).run();
        tokio::pin!(attempt);
        let mut forced_at: Option<Instant> = None;
        let verdict = loop {
            let forced = async {
                match forced_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Stop(cause)) if forced_at.is_none() => {
                        forced_at = Some(Instant::now() + GRACE + SLACK);
                        let _ = tell_stop.send(Some(cause));
                    }
                    Some(Command::Stop(_) | Command::Drive(_)) => {}
                    Some(Command::Release) | None => return None,
                },
                verdict = &mut attempt => break verdict,
                () = forced => {
                    let cause = (*tell_stop.borrow()).unwrap_or(agentvm_core::run::StopCause::Cancelled);
                    let message = "its agent did not stop it, so the machine was ended".to_owned();
                    let result = AttemptResult { end: stopped(cause), started: true, message };
                    return Some(FinishedAttempt { result, outcome: Outcome::default() });
                }
            }
        };
        Some(finish(hv, &self.record, order, &store, driven, verdict).await)
    }

    /// Removes the machine, however often it takes: the slot isn't free before.
    async fn remove(self) {
        self.inner.board().set_life(&self.key, Life::Ending);
        let mut failures = 0;
        while let Err(why) = self.inner.hv.destroy(&self.record.name, Stop::Force).await {
            failures += 1;
            tracing::warn!(machine = %self.record.name, error = &why as &dyn std::error::Error, "a machine could not be removed");
            sleep(Backoff::MACHINE.after(failures, self.record.name.as_str())).await;
        }
        self.inner.board().remove(&self.key);
        self.tell_pool();
    }

    fn tell_pool(&self) {
        self.inner.tell(Event::Pool { uid: self.key.pool_uid.clone() });
    }
}

fn not_started(end: AttemptEnd, message: String) -> FinishedAttempt {
    FinishedAttempt { result: AttemptResult { end, started: false, message }, outcome: Outcome::default() }
}

/// An error with its causes, in one line.
pub fn chain(why: &dyn std::error::Error) -> String {
    let mut text = why.to_string();
    let mut source = why.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
