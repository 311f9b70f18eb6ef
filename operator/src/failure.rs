//! The end of a subcommand that fails: the printed error, and the exit code.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use agentvm_types::causes;

use crate::config::ConfigError;

/// The work failed.
const FAILED: u8 = 1;
/// The usage or the configuration is wrong.
const USAGE: u8 = 2;

/// The reason why a subcommand stopped.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The request itself is wrong, on any host.
    #[error("{0}")]
    Usage(String),
    /// Standard output is closed or full.
    #[error("could not write to standard output")]
    Output(#[source] io::Error),
    /// The work itself failed.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// Wraps the error of the work itself.
    pub fn failed(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed(Box::new(error))
    }

    /// Prints the error and returns the exit code. A reader that closes the pipe early (`| head`)
    /// is not a failure.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            _ => eprint!("{}", describe(self)),
        }
        match self {
            Self::Config(_) | Self::Usage(_) => ExitCode::from(USAGE),
            Self::Output(_) | Self::Failed(_) => ExitCode::from(FAILED),
        }
    }
}

/// Writes a whole answer to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// `error: …` for each line of the message, and the causes below it.
fn describe(error: &dyn Error) -> String {
    let mut lines: Vec<String> =
        error.to_string().lines().map(|line| format!("error: {line}\n")).collect();
    lines.extend(causes(error).map(|cause| format!("  because: {cause}\n")));
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_the_message_and_are_not_repeated() {
        let cause = io::Error::other("disk on fire");
        let unreadable = ConfigError::Unreadable { path: "/etc/x".into(), source: cause };
        let text = describe(&Failure::Config(unreadable));
        assert!(text.starts_with("error: /etc/x: could not read it"), "{text}");
        assert_eq!(text.matches("disk on fire").count(), 1, "{text}");
        assert!(text.ends_with("  because: disk on fire\n"), "{text}");
    }
}
