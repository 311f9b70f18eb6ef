//! The life of a machine: one state with its data, the events that change it, the commands that it
//! obeys, and the views that pools and runs have of it.
//!
//! ```text
//!              Prepared            Claim              Execute               End
//!    Creating ----------> Idle ----------> Claimed ----------> Executing -------> Ended
//!       |                 ^  ^ <----------             ^                            |
//!       |                 |  |  GiveBack               | Execute                    |
//!       |                 |  |                       Found                          |
//!       |                 |  |                                                      |
//!       |                 |  |  Prepared, with another nonce                 Reset  |
//!       |                 |  +------------------------ Resetting <------------------+
//!       |                                                 |
//!       |  Quarantine                         Quarantine  |
//!       +-------------------> Quarantined <---------------+
//!
//!    Executing -----Stop----> Executing      with the cause of the stop
//!    Idle, Quarantined -----Retire----> Ending
//!    any state -----Remove----> Ending
//! ```
//!
//! A life begins as `Creating`. After a restart of the operator it may also begin as `Found`,
//! `Quarantined` or `Ending`.
//!
//! # The happy path
//!
//! 1. A pool wants a machine. The board gets an entry in the state `Creating`, and a task that owns
//!    the machine begins to make it.
//! 2. The machine runs for the first time. Its agent shows that it is in the golden state, takes
//!    its nonce and its token. If no run waits, the agent warms the machine, and the host parks it
//!    with its evidence. `Prepared`: the machine is `Idle`.
//! 3. A run takes the machine that has waited longest: `Claim`. The claim is written into the run's
//!    status. If it was certainly not written, the run gives the machine back: `GiveBack`.
//! 4. The claim is durable. The task gets the command `Execute`, sends EXECUTE with the nonce, and
//!    follows the attempt: `Executing`.
//! 5. The attempt is over and its output is collected: `End`. The machine holds the result until it
//!    stands in the run's status.
//! 6. The task gets the command `Release`. If the machine is good for another run it gets a fresh
//!    nonce and token and goes back to its golden state: `Reset`. From here on nothing finds the
//!    machine by its old nonce, because the state `Resetting` has none.
//! 7. The machine is proven and prepared again: `Prepared` with the other nonce. It is `Idle`, as
//!    in step 3.
//!
//! # Two ways to fail
//!
//! - **The machine cannot be prepared** (steps 2 and 7). If something proves that it is not in its
//!   golden state, its pool may want to look at it: `Quarantine`, until the time is over or the
//!   pool retires the machine. In all other cases the task removes it: `Remove`.
//! - **The machine is lost while a run has it** (steps 3 to 5). Its attempt ends like any other
//!   attempt, with the end `GuestLost`. The machine is never reset then: after `Release` the task
//!   removes it.
//!
//! # The causes of events
//!
//! | event | cause |
//! |---|---|
//! | `Prepared`, `Execute`, `Stop`, `End`, `Reset` | the task that owns the machine |
//! | `Quarantine`, `Remove` | the task that owns the machine |
//! | `Claim`, `GiveBack` | the controller of runs, through the board: no task is asked |
//! | `Retire` | the controller of pools, and the task that finds its idle machine lost |
//!
//! The controller of runs causes the others indirectly: it sends a [`MachineCommand`], [`admit`]
//! decides, and the task acts.
//!
//! # The laws
//!
//! - Only an `Idle` machine can be claimed.
//! - A machine that executed is `Idle` again only after `Resetting`, and with another nonce.
//! - A machine that may have executed is never given back.

mod admit;
mod life;
mod prepared;
#[cfg(test)]
mod tests;
mod views;

pub use admit::{Admission, Denied, MachineCommand, admit};
pub use life::{Event, Illegal, Incarnation, Life};
pub use prepared::{Evidence, Prepared};
pub use views::{Numbers, attempt, is_claimed_by, is_held_for, is_idle, numbers, owner, slot};
