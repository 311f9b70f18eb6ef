//! Finds the address of the API server. Machines must not reach it, whatever their pool allows. An
//! operator that does not know the address starts no machine.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use kube::Config;
use tokio::time::{sleep, timeout_at};

use crate::clock::Clock;
use crate::failure::Failure;

/// The time limit for the lookup of its name: a host that has just started may have no resolver
/// yet.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two tries.
const AGAIN: Duration = Duration::from_secs(1);

/// The lookup of the API server's name failed.
#[derive(Debug, thiserror::Error)]
#[error(
    "the address of the API server is not known, so agentvm can't keep machines away from it: \
     looking up {host}, of {url}, failed for {seconds} s; mend this host's names \
     (/etc/resolv.conf, /etc/hosts), or write an address as the kubeconfig's server (with \
     tls-server-name: {host})"
)]
struct Unknown {
    host: String,
    url: String,
    seconds: u64,
    #[source]
    why: io::Error,
}

/// The addresses of the API server at this moment. If its address can change, all its addresses
/// belong into `network.deny_cidrs`.
pub async fn networks(config: &Config) -> Result<Vec<IpNet>, Failure> {
    let url = &config.cluster_url;
    let Some(host) = url.host() else {
        return Err(Failure::Usage(format!(
            "{url} names no API server: correct `server` in the kubeconfig"
        )));
    };
    // Only in a URL an IPv6 address has brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_u16().unwrap_or(443);
    let lookup = || async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) };
    match until_known(PATIENCE, AGAIN, lookup).await {
        Ok(found) => Ok(found.into_iter().map(IpNet::from).collect()),
        Err(why) => {
            let (host, url, seconds) = (host.to_owned(), url.to_string(), PATIENCE.as_secs());
            Err(Failure::failed(Unknown { host, url, seconds, why }))
        }
    }
}

/// Asks until an answer has an address. Returns the last error when `within` has passed.
async fn until_known(
    within: Duration,
    again: Duration,
    lookup: impl AsyncFn() -> io::Result<Vec<SocketAddr>>,
) -> io::Result<Vec<IpAddr>> {
    let clock = Clock::system();
    let deadline = clock.instant() + within;
    let mut said = false;
    loop {
        let why = match timeout_at(deadline, lookup()).await {
            Ok(Ok(found)) if !found.is_empty() => {
                return Ok(found.iter().map(SocketAddr::ip).collect());
            }
            Ok(Ok(_)) => io::Error::other("it has no address"),
            Ok(Err(why)) => why,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        };
        if clock.instant() + again > deadline {
            return Err(why);
        }
        if !std::mem::replace(&mut said, true) {
            tracing::warn!(
                "the API server's name can't be looked up: {why}; tried again for {within:?}"
            );
        }
        sleep(again).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// An address as the host, so no lookup is needed.
    async fn of(url: &str) -> Vec<String> {
        let found = networks(&Config::new(url.parse().unwrap())).await.unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn the_api_server_is_found_by_its_address() {
        assert_eq!(of("https://203.0.113.7:6443").await, ["203.0.113.7/32"]);
        assert_eq!(of("https://203.0.113.7").await, ["203.0.113.7/32"]);
        assert_eq!(of("https://[2001:db8::1]:6443").await, ["2001:db8::1/128"]);
    }

    /// Fails this often, and then returns two addresses.
    async fn after(failures: u32, within: Duration) -> (io::Result<Vec<IpAddr>>, u32) {
        let asked = Cell::new(0);
        let lookup = async || {
            asked.set(asked.get() + 1);
            match asked.get() {
                n if n > failures => Ok(vec![
                    "203.0.113.7:443".parse().unwrap(),
                    "[2001:db8::7]:443".parse().unwrap(),
                ]),
                n if n % 2 == 0 => Ok(vec![]),
                n => Err(io::Error::other(format!("no answer {n}"))),
            }
        };
        (until_known(within, Duration::from_millis(1), lookup).await, asked.get())
    }

    #[tokio::test]
    async fn a_name_that_is_known_a_little_later_is_waited_for() {
        let (found, asked) = after(3, Duration::from_mins(1)).await;
        assert_eq!(asked, 4);
        assert_eq!(
            found.unwrap().iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["203.0.113.7", "2001:db8::7"]
        );
    }

    #[tokio::test]
    async fn a_name_that_stays_unknown_is_an_error_and_not_an_empty_list() {
        let (found, asked) = after(1, Duration::ZERO).await;
        assert_eq!((found.unwrap_err().to_string(), asked), ("no answer 1".to_owned(), 1));
        let (found, asked) = after(u32::MAX, Duration::from_millis(20)).await;
        assert!(found.is_err() && asked > 1, "{asked}");
        let why = Unknown {
            host: "api.test".into(),
            url: "https://api.test:6443/".into(),
            seconds: 30,
            why: io::Error::other("no answer"),
        };
        let said = why.to_string();
        assert!(
            ["api.test", "https://api.test:6443/", "30 s", "resolv.conf", "kubeconfig"]
                .iter()
                .all(|part| said.contains(part))
        );
    }
}
