//! The agent's log for people: a line on stderr for each message. In a machine, stderr is the
//! serial console.

use std::error::Error;

use agentvm_types::report;

/// Something that happened.
pub fn info(what: &str) {
    eprintln!("agentvm-guest: {what}");
}

/// Something that went wrong, with its causes.
pub fn error(what: &str, why: &dyn Error) {
    eprintln!("agentvm-guest: {what}: {}", report(why));
}
