//! Where the API server is: no machine reaches it, whatever its pool allows. An operator that doesn't know it lets none run.

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

/// How long its name may take to be known: a host that has just started may have no resolver yet.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(1);

/// Nobody said what its name stands for.
#[derive(Debug, thiserror::Error)]
#[error(
    "the API server's address isn't known, so machines can't be kept from it: looking up {host}, of {url}, failed for {seconds} s; mend this \
     host's names (/etc/resolv.conf, /etc/hosts), or have the kubeconfig's server name an address (with tls-server-name: {host})"
)]
struct Unknown {
    host: String,
    url: String,
    seconds: u64,
    #[source]
    why: io::Error,
}

/// Its addresses as they are now. Those of one that moves belong into `network.deny_cidrs`.
pub async fn networks(config: &Config) -> Result<Vec<IpNet>, Failure> {
    let url = &config.cluster_url;
    let Some(host) = url.host() else {
        return Err(Failure::Usage(format!(
            "{url} names no API server: correct `server` in the kubeconfig"
        )));
    };
    // In a URL, and nowhere else, an address of IPv6 stands in brackets.
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

/// Asks until there is an answer with an address in it; the last error when `within` has passed.
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
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "nobody answers"),
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

    /// Needs no name.
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

    /// Fails so often, and then finds two.
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
