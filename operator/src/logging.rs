//! Logs go to standard error, for people or as JSON, with New York time. Only this file starts and
//! configures them.

use std::fmt;
use std::io::IsTerminal;

use agentvm_core::calendar;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::{clock::Clock, failure::Failure};

/// Libraries with so much debug output that ours would get lost. They stay at `info` unless a
/// filter names them.
const NOISY: &str =
    "hyper=info,hyper_util=info,h2=info,rustls=info,tower=info,kube_client=info,kube_runtime=info";

/// The client logs every answer of an API server that is still starting as an error. Our own code
/// reports the errors that matter.
const STARTING: &str = "kube_client::client=off";

/// Starts logging for the rest of the process. `verbose` wins over `level`: 1 is debug, 2 is trace.
pub fn start(level: &str, verbose: u8, json: bool) -> Result<(), Failure> {
    let filter = filter(level, verbose).map_err(Failure::Usage)?;
    let colour = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(NewYork(Clock::system()));
    let started = if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(colour).with_target(false).try_init()
    };
    started.map_err(|error| Failure::Usage(format!("could not start logging: {error}")))
}

/// Applies a plain level to our own crates only. A filter is used unchanged.
fn filter(level: &str, verbose: u8) -> Result<EnvFilter, String> {
    let level = match verbose {
        0 => level,
        1 => "debug",
        _ => "trace",
    };
    let plain = ["error", "warn", "info", "debug", "trace", "off"]
        .contains(&level.to_ascii_lowercase().as_str());
    let quiet = ["debug", "trace"].contains(&level.to_ascii_lowercase().as_str());
    // A plain level may be refined. The author of a filter wants exactly that filter.
    let directives = match (plain, quiet) {
        (true, true) => format!("{level},{NOISY},{STARTING}"),
        (true, false) => format!("{level},{STARTING}"),
        (false, _) => level.to_owned(),
    };
    if !plain && !level.contains(['=', ',']) {
        return Err(format!(
            "--log-level {level}: it is not one of error, warn, info, debug, trace, off, and not a \
             filter such as info,agentvm_hypervisor=debug"
        ));
    }
    EnvFilter::try_new(directives).map_err(|error| format!("--log-level {level}: {error}"))
}

/// Times in New York's time zone.
struct NewYork(Clock);

impl FormatTime for NewYork {
    fn format_time(&self, into: &mut Writer<'_>) -> fmt::Result {
        write!(into, "{}", calendar::text(self.0.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_understood_and_typing_errors_are_not() {
        for good in ["info", "DEBUG", "warn,agentvm_hypervisor=trace", "agentvm_core=debug"] {
            assert!(filter(good, 0).is_ok(), "{good}");
        }
        assert!(filter("inof", 0).is_err_and(|why| why.contains("--log-level inof")));
        assert!(filter("a=loud", 0).is_err());
    }

    #[test]
    fn times_are_new_yorks_with_their_offset() {
        let mut text = String::new();
        NewYork(Clock::system()).format_time(&mut Writer::new(&mut text)).unwrap();
        assert!(text.ends_with("-05:00") || text.ends_with("-04:00"), "{text}");
        assert!(calendar::parse(&text).is_some(), "{text}");
    }

    #[test]
    fn verbose_wins_and_keeps_libraries_quiet() {
        let shown = filter("error", 1).unwrap().to_string();
        assert!(shown.contains("debug") && shown.contains("hyper=info"), "{shown}");
    }
}
