//! Decisions about runs: is it valid, whose turn is it, what to do next, what to say.

mod bounded;
mod paths;
mod plan;
mod program;
mod queue;
mod result;
mod status;
mod validate;

pub use paths::check_relative_path;
pub use plan::{AttemptSeen, MissingRef, Plan, PoolSeen, Seen, Step, StopCause, plan};
pub use program::{CODE_FOLDER, Program, program};
pub use queue::{Place as QueuePlace, QueueEntry, place};
pub use result::{AttemptEnd, AttemptResult, Claim, FinishedAttempt, Outcome};
pub use status::{
    accepted_waiting, claimed, finished, finished_attempt, is_finished, open_attempt, unclaimed,
};
pub use validate::{Content, EnvItem, EnvValue, FileItem, KeyOf, ValidRun, validate};
