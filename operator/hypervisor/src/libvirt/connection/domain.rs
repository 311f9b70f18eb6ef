//! Looks up, reads, starts and ends domains, in our own terms.

use std::time::{Duration, Instant};

use agentvm_core::names::DomainName;
use virt::connect::Connect;
use virt::domain::{Domain, DomainPausedReason, DomainState, DomainStateReason};
use virt::enumutil::Enum;
use virt::error::{Error, ErrorDomain, ErrorNumber};
use virt::sys;

use crate::libvirt::qemu::libvirt_error::LibvirtError;
use crate::libvirt::qemu::{monitor, process};
use crate::libvirt::xml::metadata;
use crate::{HvError, MachineRecord, PowerState, Stop};

const POLL: Duration = Duration::from_millis(5);
/// So long may QEMU take to end after it was told to.
const QUIT: Duration = Duration::from_secs(2);
/// The number of tries to start a domain whose filter cannot be set.
const TRIES: u32 = 5;

/// For `map_err`: an operation that libvirt refused.
pub fn refused(what: impl Into<String>) -> impl FnOnce(Error) -> HvError {
    let failed = HvError::failed(what);
    move |error| failed(LibvirtError(error))
}

fn is(error: &Error, number: ErrorNumber) -> bool {
    error.code().is_known_and(|code| code == number)
}

/// `None` when there is no such domain.
pub fn find(conn: &Connect, name: &DomainName) -> Result<Option<Domain>, HvError> {
    match conn.lookup_domain_by_name(name.as_str()) {
        Ok(domain) => Ok(Some(domain)),
        Err(e) if is(&e, ErrorNumber::NoDomain) => Ok(None),
        Err(e) => Err(refused(format!("look for the domain {name}"))(e)),
    }
}

pub fn get(conn: &Connect, name: &DomainName) -> Result<Domain, HvError> {
    find(conn, name)?.ok_or_else(|| HvError::NoSuchMachine(name.clone()))
}

/// `None` when the domain is not agentvm's.
pub fn record(domain: &Domain) -> Result<Option<MachineRecord>, HvError> {
    let kind = i32::try_from(sys::VIR_DOMAIN_METADATA_ELEMENT).unwrap_or(2);
    match domain.metadata(kind, Some(metadata::NAMESPACE), 0) {
        Ok(element) => Ok(metadata::parse(&element)),
        Err(e) if is(&e, ErrorNumber::NoDomainMetadata) || is(&e, ErrorNumber::NoDomain) => {
            Ok(None)
        }
        Err(e) => Err(refused("read a domain's metadata")(e)),
    }
}

/// Defines and starts a domain. After a failed start the definition stays, and the caller removes
/// it.
pub fn start(
    conn: &Connect,
    name: &DomainName,
    xml: &str,
    paused: bool,
) -> Result<Domain, HvError> {
    let domain =
        conn.define_domain_xml(xml).map_err(refused(format!("define the domain {name}")))?;
    let flags = if paused { sys::VIR_DOMAIN_START_PAUSED } else { sys::VIR_DOMAIN_NONE };
    try_start(&domain, flags).map_err(refused(format!("start the domain {name}")))?;
    Ok(domain)
}

/// ebtables 1.8.9, which libvirt calls for its filters, fails now and then while another process
/// changes its own rules: it takes up a change that is half done.
fn try_start(domain: &Domain, flags: u32) -> Result<(), Error> {
    for _ in 1..TRIES {
        match domain.create_with_flags(flags) {
            Err(e) if e.domain().is_known_and(|domain| domain == ErrorDomain::Firewall) => {
                tracing::debug!(
                    "libvirt could not set a filter and is told to again: {}",
                    e.message()
                );
            }
            done => return done.map(drop),
        }
    }
    domain.create_with_flags(flags).map(drop)
}

/// libvirt's state of the domain, without our own marks.
pub fn power(domain: &Domain) -> Result<PowerState, HvError> {
    let dead = |why: String| Ok(PowerState::Dead { why });
    let (state, reason) = domain.state().map_err(refused("ask for a domain's state"))?;
    match (state, reason) {
        (Enum::Known(DomainState::Running | DomainState::Blocked), _) => Ok(PowerState::Running),
        (
            Enum::Known(DomainState::Paused),
            Enum::Known(DomainStateReason::Paused(Enum::Known(
                why @ (DomainPausedReason::IOError
                | DomainPausedReason::Crashed
                | DomainPausedReason::Watchdog),
            ))),
        ) => dead(format!("libvirt paused it: {why:?}")),
        (Enum::Known(DomainState::Paused), _) => Ok(PowerState::Paused),
        (Enum::Known(_), Enum::Known(reason)) => dead(format!("it is not running: {reason}")),
        (Enum::Known(state), Enum::Unknown(_)) => dead(format!("it is not running: {state:?}")),
        // The binding swallows the error of a domain that has gone meanwhile.
        (Enum::Unknown(_), _) => Ok(PowerState::Absent),
    }
}

/// Waits until `wanted` holds; `false` when it didn't in time.
pub fn wait(
    domain: &Domain,
    within: Duration,
    wanted: impl Fn(&PowerState) -> bool,
) -> Result<bool, HvError> {
    let deadline = Instant::now() + within;
    loop {
        if wanted(&power(domain)?) {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
}

fn ended(state: &PowerState) -> bool {
    matches!(state, PowerState::Absent | PowerState::Dead { .. })
}

/// Ends a domain and forgets it.
pub fn end(domain: &Domain, how: Stop, grace: Duration) -> Result<(), HvError> {
    // A paused guest can't hear the power button.
    if how == Stop::Graceful && power(domain)? == PowerState::Running && domain.shutdown().is_ok() {
        wait(domain, grace, ended)?;
    }
    if domain.is_active().unwrap_or(false) {
        // It does not wait: a QEMU whose main loop hangs never answers until the next step ends it.
        let asked = domain.clone();
        let ask = std::thread::Builder::new()
            .name("libvirt-quit".to_owned())
            .spawn(move || monitor::quit(&asked));
        if let Err(error) = ask {
            tracing::debug!(%error, "QEMU is ended without being asked");
        }
        let deadline = Instant::now() + QUIT;
        while domain.is_active().unwrap_or(false) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
    }
    kill(domain)?;
    match domain.undefine() {
        Err(e) if !is(&e, ErrorNumber::NoDomain) => Err(refused("forget a domain")(e)),
        _ => Ok(()),
    }
}

/// Ends QEMU in any state, and all calls that wait for its monitor. It is killed first, and libvirt
/// hears of it afterwards. A QEMU that does not run is fine.
pub fn kill(domain: &Domain) -> Result<(), HvError> {
    if !domain.is_active().unwrap_or(false) {
        return Ok(());
    }
    let name =
        domain.name().map(DomainName::from_recorded).map_err(refused("ask for a domain's name"))?;
    if let Err(why) = process::kill(&name) {
        tracing::debug!(%name, error = &why as &dyn std::error::Error,
            "libvirt has to end its process by itself");
    }
    match domain.destroy() {
        Err(e) if domain.is_active().unwrap_or(true) => Err(refused("end a domain by force")(e)),
        _ => Ok(()),
    }
}
