//! The task that owns one machine, from its creation to its end. The order of each `select!` is policy.

use std::sync::Arc;

use agentvm_core::{
    pool::{ResetLimits, Used, Way, way},
    retry::Backoff,
    run::{AttemptEnd, AttemptResult, FinishedAttempt, Outcome},
};
use agentvm_hypervisor::{MachineLimits, MachineRecord, MachineSpec, Stop, Tier};
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep},
};

use super::{
    Event, Inner,
    attempt::{Attempt, GRACE, SLACK},
    board::{Command, Idle, SlotKey},
    evidence::Evidence,
    finish::finish,
    life::Life,
    measure::measured,
    order::Order,
    prepare::{Preparation, PrepareError, Ready},
    store::Store,
    verdict::stopped,
};
use crate::{
    agent::{Session, SessionError, fresh_nonce},
    network::{Attachment, flows},
};

/// Where a machine comes from.
#[derive(Debug)]
pub enum Origin {
    /// To be made, connected like this.
    Golden { plug: Attachment },
    /// To be brought back: its run is over.
    Reset,
    /// Found after a restart as it was left: proven, prepared, never resumed since.
    FoundParked(Evidence),
    /// Found after a restart, claimed by a run that isn't over.
    FoundClaimed,
    /// Found after a restart, under suspicion.
    FoundQuarantined { until: Timestamp },
    /// Found after a restart, of no use to anyone.
    FoundLost { why: String },
}

/// A machine and the world it lives in.
#[derive(Debug)]
pub struct Task {
    pub inner: Arc<Inner>,
    pub key: SlotKey,
    pub record: MachineRecord,
    /// What the golden's agent said of itself.
    pub guest: String,
    /// How often this process was brought back. Not known of one that was found at work: then it isn't once more.
    pub reuses: u32,
    pub commands: mpsc::UnboundedReceiver<Command>,
}

/// How an attempt left its machine.
enum Left {
    /// Its end is durable. `intact`: it ended by itself and was seen to.
    Behind { intact: bool },
    /// Nobody wants to know any more.
    Dropped,
}

impl Task {
    /// The whole life.
    pub async fn live(mut self, origin: Origin) {
        let mut next = Some(origin);
        while let Some(origin) = next.take() {
            let Some(session) = self.prepared(origin).await else { break };
            let Some(order) = self.wait().await else { break };
            if let Left::Behind { intact } = self.execute(&order, session).await {
                next = self.brought_back(intact);
            }
        }
        self.remove().await;
    }

    /// `None`: it comes to nothing. Within: the session that its preparation left open.
    async fn prepared(&mut self, origin: Origin) -> Option<Option<Session>> {
        let (tier, done) = match origin {
            Origin::Golden { plug } => {
                let tier = self.inner.board().ways.creation(
                    &self.key.pool_uid,
                    &self.record.golden,
                    Timestamp::now(),
                );
                if tier == Tier::Boot {
                    // It has no private mapping of the golden's memory: there is nothing to drop.
                    self.reuses = u32::MAX;
                }
                (tier, self.create(tier, &plug).await)
            }
            Origin::Reset => (Tier::InPlace, self.reset().await),
            Origin::FoundParked(Evidence { reset, reuses, resolvers }) => {
                self.reuses = reuses;
                let idle = Idle { reset, nic: self.record.nic.clone(), resolvers };
                self.idle(Ready { session: None, idle });
                return Some(None);
            }
            Origin::FoundClaimed => {
                self.reuses = u32::MAX;
                return Some(None);
            }
            Origin::FoundQuarantined { until } => {
                self.keep_until(until).await;
                return None;
            }
            Origin::FoundLost { why } => {
                tracing::info!(machine = %self.record.name, "a machine goes: {why}");
                return None;
            }
        };
        match done {
            Ok(ready) => {
                self.inner.board().note_success(&self.key.pool_uid, tier, Timestamp::now());
                Some(self.idle(ready))
            }
            Err(why) => {
                self.failed(tier, &why).await;
                None
            }
        }
    }

    async fn create(&mut self, tier: Tier, plug: &Attachment) -> Result<Ready, PrepareError> {
        let inner = self.inner.clone();
        // Closed only when the operator stops; then nobody needs the machine.
        let turn = inner.creation.acquire().await.map_err(|_| PrepareError::Stopping)?;
        self.record.nic =
            inner.links.nic(&self.record.name, plug).await.map_err(PrepareError::Network)?;
        let spec = self.spec(tier);
        self.inner.board().set_limits(&self.key, &self.record.nonce, spec.limits);
        measured(
            &self.inner.config.metrics,
            &self.record,
            tier,
            self.preparation(&spec, &inner.creation).create(turn),
        )
        .await
    }

    async fn reset(&self) -> Result<Ready, PrepareError> {
        let turn = self.inner.resets.acquire().await.map_err(|_| PrepareError::Stopping)?;
        let (spec, tier) = (self.spec(Tier::InPlace), Tier::InPlace);
        self.inner.board().set_limits(&self.key, &self.record.nonce, spec.limits);
        measured(
            &self.inner.config.metrics,
            &self.record,
            tier,
            self.preparation(&spec, &self.inner.resets).reset(turn),
        )
        .await
    }

    fn spec(&self, tier: Tier) -> MachineSpec {
        MachineSpec {
            record: self.record.clone(),
            share_bytes: self.inner.config.share_bytes,
            tier,
            limits: self.limits(),
            reset_limits: ResetLimits::default(),
        }
    }

    /// As the pool has them now.
    fn limits(&self) -> MachineLimits {
        self.inner.board().ways.pool(&self.key.pool_uid).map(|pool| pool.limits).unwrap_or_default()
    }

    fn preparation<'a>(&'a self, spec: &'a MachineSpec, turns: &'a Semaphore) -> Preparation<'a> {
        let Self { inner, guest, reuses, .. } = self;
        let Inner { hv, links, claims, stopping, .. } = &**inner;
        Preparation { hv: &**hv, links, claims, turns, stopping, spec, guest, reuses: *reuses }
    }

    fn idle(&self, ready: Ready) -> Option<Session> {
        self.inner.board().set_idle(&self.key, ready.idle, Timestamp::now());
        self.tell_pool();
        ready.session
    }

    /// Notes why, and keeps the machine for a look where it isn't what it should be.
    async fn failed(&mut self, tier: Tier, why: &PrepareError) {
        if matches!(why, PrepareError::Stopping) {
            return;
        }
        if let Some(why) = why.not_resettable() {
            tracing::info!(machine = %self.record.name, pool = %self.record.owner, "a machine is replaced: {why}");
            return;
        }
        let (message, now) = (chain(why), Timestamp::now());
        let what = if tier == Tier::InPlace { "brought back" } else { "made" };
        tracing::warn!(machine = %self.record.name, pool = %self.record.owner, tier = tier.as_str(), "a machine could not be {what}: {message}");
        {
            let mut board = self.inner.board();
            if why.speaks_against(tier) {
                board.ways.note(&self.key.pool_uid, tier, Err(message.clone()), now);
            }
            // After a reset that failed a fresh process is worth a try at once.
            if tier != Tier::InPlace {
                board.note_trouble(&self.key.pool_uid, why.reason(), message, now);
            }
        }
        if let Some(why) = why.not_proven() {
            self.quarantine(&why, now).await;
        }
    }

    async fn quarantine(&mut self, why: &str, now: Timestamp) {
        let keep = self
            .inner
            .board()
            .ways
            .pool(&self.key.pool_uid)
            .map(|pool| pool.quarantine)
            .unwrap_or_default();
        let Some(until) = now.checked_add(keep).ok().filter(|_| !keep.is_zero()) else { return };
        if let Err(why) = self.inner.hv.quarantine(&self.record.name, until.as_second(), why).await
        {
            tracing::warn!(machine = %self.record.name, error = &why as &dyn std::error::Error, "a machine could not be kept for a look");
            return;
        }
        self.inner.board().set_life(&self.key, Life::Quarantined { until });
        self.tell_pool();
        self.keep_until(until).await;
    }

    /// Whether the machine is brought back; then it is another one from here on.
    fn brought_back(&mut self, intact: bool) -> Option<Origin> {
        let (key, now) = (&self.key, Timestamp::now());
        let used = self.inner.board().ways.used(
            &key.pool_uid,
            key.slot,
            &self.record.golden,
            self.record.nic.as_ref(),
            now,
        )?;
        let slot_wanted = used.slot_wanted && !self.inner.stopping();
        let decided = way(&Used { reuses: self.reuses, intact, slot_wanted, ..used });
        if let Way::Replace { why } = decided {
            tracing::debug!(machine = %self.record.name, "a machine is replaced: {why}");
            return None;
        }
        if let Err(why) = self.renew() {
            tracing::warn!(machine = %self.record.name, error = &why as &dyn std::error::Error, "a machine is replaced");
            return None;
        }
        self.tell_pool();
        Some(Origin::Reset)
    }

    fn renew(&mut self) -> Result<(), SessionError> {
        let (nonce, token) = (fresh_nonce()?, fresh_nonce()?.into());
        self.record = MachineRecord { nonce, token, ..self.record.clone() };
        self.reuses = self.reuses.saturating_add(1);
        self.inner.board().renew(&self.key, &self.record.nonce);
        // What was said to the incarnation of before is not meant for this one. Who ends all machines says so before it tells
        // them, so this can't swallow it unseen.
        while self.commands.try_recv().is_ok() {}
        Ok(())
    }

    async fn execute(&mut self, order: &Order, session: Option<Session>) -> Left {
        let driven = Instant::now();
        let life = Life::Driven { run: order.run_uid.clone() };
        self.inner.board().set_life(&self.key, life);
        self.tell_pool();
        flows::begin_record(
            &self.inner.config.flow_recorder,
            &self.record,
            &order.run_uid,
            &order.run,
        );
        let driven = self.drive(order, session, driven).await;
        let Inner { hv, config, .. } = &*self.inner;
        let network =
            flows::finish_record(&**hv, &config.flow_recorder, &self.record, &config.metrics).await;
        let Some((mut done, intact)) = driven else { return Left::Dropped };
        done.outcome.network = network;
        let life = Life::Ended { run: order.run_uid.clone(), done: Arc::new(done) };
        self.inner.board().set_life(&self.key, life);
        self.inner.tell(Event::Run { uid: order.run_uid.clone() });
        // The machine holds the result until it is durable elsewhere.
        while let Some(command) = self.commands.recv().await {
            if matches!(command, Command::Release) {
                return Left::Behind { intact };
            }
        }
        Left::Dropped
    }

    /// The end of the attempt, and whether it came by itself; `None` when nobody wants to know it any more.
    async fn drive(
        &mut self,
        order: &Order,
        session: Option<Session>,
        driven: Instant,
    ) -> Option<(FinishedAttempt, bool)> {
        let inner = self.inner.clone();
        let hv = &*inner.hv;
        let store = match Store::open(&order.folder) {
            Ok(store) => store,
            Err(why) => {
                let message =
                    format!("its folder {} could not be made: {why}", order.folder.display());
                return Some((not_started(AttemptEnd::GuestLost, message), false));
            }
        };
        let (tell_stop, stop) = watch::channel(None);
        let claiming = inner.board().take_claiming(&self.key);
        let processes = self.limits().processes;
        let attempt =
            Attempt::new(hv, &self.record, order, store.clone(), stop, claiming, processes);
        let attempt = attempt.on(inner.links.bridged_nic(&self.record)).run(session);
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
                    return Some((FinishedAttempt { result, outcome: Outcome::default() }, false));
                }
            }
        };
        let intact = verdict.wire.is_some();
        Some((finish(hv, &self.record, order, &store, driven, verdict).await, intact))
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
        self.inner.links.free(&self.record.name);
        self.inner.config.metrics.machine_gone(&self.record.name);
        self.inner.board().remove(&self.key);
        self.tell_pool();
    }

    pub fn tell_pool(&self) {
        self.inner.tell(Event::Pool { uid: self.key.pool_uid.clone() });
    }
}

fn not_started(end: AttemptEnd, message: String) -> FinishedAttempt {
    FinishedAttempt {
        result: AttemptResult { end, started: false, message },
        outcome: Outcome::default(),
    }
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
