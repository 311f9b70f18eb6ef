//! Decisions about runs: validation, the queues, the next step, and the status.

mod adrift;
mod content;
mod env;
mod expiry;
mod facts;
mod files;
mod kept_output;
mod paths;
mod plan;
mod program;
mod queue;
mod result;
mod status;
mod validate;
mod write_pacing;

pub use adrift::{Adrift, adrift};
pub use content::check_content;
pub use env::{EnvItem, EnvValue, KeyOf};
pub use expiry::{Expiry, expiry};
pub use facts::{
    AttemptState, MissingRef, PoolState, RunFacts, attempts, is_ours, known_missing, unstarted,
    waits_since,
};
pub use files::{Content, FileItem};
pub use kept_output::kept_bytes;
pub use paths::check_relative_path;
pub use plan::{Plan, Step, StopCause, Wait, plan};
pub use program::{Program, program};
pub use queue::{
    Line, Place, PoolName, QueueEntry, ROUND_SECONDS, RunQueues, Standing, entry, is_in_line,
    standing,
};
pub use result::{AttemptEnd, AttemptResult, Claim, Fetched, FinishedAttempt, Outcome};
pub use status::{
    accepted_waiting, claimed, finished, finished_attempt, is_finished, is_superseded,
    open_attempt, unclaimed,
};
pub use validate::{ValidRun, allowed_seconds, validate};
pub use write_pacing::wait_is_worth_a_write;
