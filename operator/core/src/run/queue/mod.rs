//! The queues of runs that wait for machines. Each pool has one line. The order of a line is a
//! function of the objects and the pool's status, so that each node finds the same order.

mod line;
mod order;
mod queues;
mod standing;

pub use line::Line;
pub use order::{Place, QueueEntry, ROUND_SECONDS};
pub use queues::{PoolName, RunQueues, Standing};
pub(super) use standing::in_line;
pub use standing::{entry, is_in_line, standing};

#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod steps_tests;
