//! The agent's log for people: a line on stderr for each message. In a machine, stderr is the
//! serial console.

use std::error::Error;

/// Something that happened.
pub fn info(what: &str) {
    eprintln!("agentvm-guest: {what}");
}

/// Something that went wrong, with its causes.
pub fn error(what: &str, why: &dyn Error) {
    eprintln!("agentvm-guest: {what}: {}", chain(why));
}

/// An error and its causes in one line.
pub fn chain(why: &dyn Error) -> String {
    let mut line = why.to_string();
    let mut next = why.source();
    while let Some(cause) = next {
        line = format!("{line}: {cause}");
        next = cause.source();
    }
    line
}
