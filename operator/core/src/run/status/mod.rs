//! The status of a run at each turn of its life: bounded, and equal where nothing changed.

mod bounds;
mod conditions;
mod transitions;

pub use transitions::{
    accepted_waiting, claimed, finished, finished_attempt, is_finished, is_superseded,
    open_attempt, unclaimed,
};
