//! Runs, as far as their machines are concerned: a claim, its attempt, its release.

use agentvm_core::names::DomainName;
use agentvm_core::run::{AttemptState, Claim, StopCause};
use agentvm_hypervisor::Stop;
use agentvm_types::{Nonce, PoolUid, RunUid};

use super::{AttemptSpec, Machines, board::Work, commands::MachineCommand};
use crate::api::NotWritten;

impl Machines {
    /// Takes an idle machine for a run. This is a change in memory: no call leaves the process.
    pub fn acquire(&self, pool: &PoolUid, run: &RunUid) -> Option<Claim> {
        let Self { inner } = self;
        let node = (&inner.config.node, &inner.config.node_id);
        inner.board().acquire(pool, run, node, &inner.claims)
    }

    /// Whether a machine is set aside for this run and nothing was sent to it.
    pub fn holds(&self, run: &RunUid) -> bool {
        self.inner.board().holds(run)
    }

    /// The claim may be durable or not: a write of it was not confirmed.
    pub fn doubt(&self, run: &RunUid) {
        self.inner.board().doubt(run);
    }

    /// The claim is not durable.
    pub fn give_back(&self, run: &RunUid, proof: NotWritten) {
        self.inner.board().give_back(run, proof, self.inner.now());
    }

    /// The attempt that a machine executes or has executed for this run.
    pub fn work_of(&self, run: &RunUid) -> Option<Work> {
        self.inner.board().work_of(run, (&self.inner.config.node, &self.inner.config.node_id))
    }

    /// Forgets what is noted about the claims of runs that are gone.
    pub fn keep_runs(&self, exists: impl Fn(&RunUid) -> bool) {
        self.inner.board().keep_runs(exists);
    }

    /// The incarnation that the run has on this node.
    pub fn held_by(&self, run: &RunUid) -> Option<Nonce> {
        self.inner.board().held_by(run)
    }

    /// This node could not renew its Lease: every attempt stops, and keeps its output.
    pub fn stop_all(&self) {
        // The board is locked for each run anew.
        let (_, runs) = self.inner.board().owners();
        for run in &runs {
            self.stop(run, StopCause::NodeLost);
        }
    }

    /// Others may soon run the attempts of this node: the machines of those that have not stopped
    /// are ended without a question to their guests. Returns how many were left before.
    pub async fn kill_attempts(&self) -> usize {
        let left = self.inner.board().may_execute();
        let ends = left.iter().map(|name| self.inner.hv.destroy(name, Stop::Force));
        for (name, done) in left.iter().zip(futures::future::join_all(ends).await) {
            if let Err(why) = done {
                tracing::error!(machine = %name, error = &why as &dyn std::error::Error,
                    "a machine whose run may go elsewhere could not be ended");
            }
        }
        left.len()
    }

    /// The state of an attempt. `None`: no machine of this node has it.
    pub fn attempt(&self, run: &RunUid, nonce: &Nonce) -> Option<AttemptState> {
        self.inner.board().attempt(run, nonce)
    }

    /// The claim is durable: the machine executes the attempt. `false` when the machine is gone.
    pub fn execute(&self, spec: AttemptSpec) -> bool {
        let (run, spec) = (spec.run_uid.clone(), Box::new(spec));
        self.inner.board().tell_run(&run, |nonce| MachineCommand::Execute { nonce, spec })
    }

    /// The machines that execute, with their runs.
    pub fn executing(&self) -> Vec<(DomainName, RunUid)> {
        self.inner.board().executing()
    }

    pub fn stop(&self, run: &RunUid, cause: StopCause) {
        self.inner.board().tell_run(run, |nonce| MachineCommand::Stop { nonce, cause });
    }

    /// Says that a pool is worth another look, although none of its machines changed.
    pub fn look_again(&self, pool: &PoolUid) {
        self.inner.events.pool(pool);
    }

    /// The run's end is durable: its machine is reset or removed. A run without a machine is no
    /// error.
    pub fn release(&self, run: &RunUid) {
        let mut board = self.inner.board();
        // A claim to which nothing was sent ends at once, so that no other run gets its nonce.
        board.discard(run);
        board.tell_run(run, |nonce| MachineCommand::Release { nonce });
    }
}
