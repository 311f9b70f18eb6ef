//! How long a certificate is good for. Each file starts with a line that says until when, so that nothing here has
//! to parse X.509; PEM readers skip what stands before the first block (RFC 7468, "explanatory text").

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::CertificateParams;

const DAY: Duration = Duration::from_hours(24);
/// Raised when what a certificate says changes, so that older ones are replaced.
const ISSUE: u32 = 1;
const MARK: &str = "agentvm-certificate";

/// How long a certificate lives, and how long before its end it is replaced.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    pub valid: Duration,
    pub renew_before: Duration,
}

/// Renewed only at a start, and a control plane may run for long: hence years, not months.
pub const IDENTITY: Term =
    Term { valid: DAY.saturating_mul(3 * 365), renew_before: DAY.saturating_mul(2 * 365) };
/// Outlives whatever it signs.
pub const AUTHORITY: Term =
    Term { valid: DAY.saturating_mul(20 * 365), renew_before: DAY.saturating_mul(5 * 365) };

/// Sets the term that starts now, and gives the line that says so.
pub fn stamp(params: &mut CertificateParams, term: Term, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // A day back: a host whose clock is set right after the start goes on working.
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + (now + term.valid);
    format!("{MARK} issue={ISSUE} expires={}\n", (now + term.valid).as_secs())
}

/// Whether a file that starts with such a line may still be used.
pub fn is_fresh(file: &str, term: Term, now: SystemTime) -> bool {
    let prefix = format!("{MARK} issue={ISSUE} expires=");
    let expires = file.lines().next().and_then(|line| line.strip_prefix(&prefix)?.parse().ok());
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    expires.is_some_and(|expires| now + term.renew_before < Duration::from_secs(expires))
}
