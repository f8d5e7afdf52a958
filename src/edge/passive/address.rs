//! [`PublicAddresses`]: the address that a 227 reply names.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::service;
use crate::config::PublicAddress;

/// The resolver tells no time to live, so names are looked up this often: a balancer's change of
/// address is followed within a minute or so.
const REFRESH: Duration = Duration::from_mins(1);
/// A load balancer that is being made gets its address within minutes: ask often until it has one.
const FIRST: Duration = Duration::from_secs(5);
/// After this a lookup counts as failed.
const LOOKUP: Duration = Duration::from_secs(10);

/// The addresses of one listener.
#[derive(Debug)]
pub(in crate::edge) struct PublicAddresses {
    rule: PublicAddress,
    /// The last good answer for the name or the Service.
    resolved: Mutex<Option<Ipv4Addr>>,
}

/// What the choice may depend on.
#[derive(Clone, Copy, Debug)]
pub(in crate::edge) struct Reached {
    /// The client.
    pub(in crate::edge) client: IpAddr,
    /// Our side of the control connection.
    pub(in crate::edge) local: IpAddr,
    /// What the client connected to, where a PROXY header said so.
    pub(in crate::edge) through: Option<IpAddr>,
}

impl PublicAddresses {
    pub(in crate::edge) fn new(rule: PublicAddress) -> Self {
        Self {
            rule,
            resolved: Mutex::default(),
        }
    }

    /// The address for a 227; `None` where there is none that IPv4 can reach.
    pub(in crate::edge) fn choose(&self, reached: Reached) -> Option<Ipv4Addr> {
        let local = ipv4(reached.local);
        match &self.rule {
            PublicAddress::Connection => local,
            PublicAddress::Fixed(address) => Some(*address),
            PublicAddress::Dns(_) | PublicAddress::Service(_) => self.current(),
            PublicAddress::ByClient(rules) => {
                let client = reached.client.to_canonical();
                let rule = rules.iter().find(|(clients, _)| clients.contains(&client));
                rule.map(|(_, address)| *address).or(local)
            }
            // A balancer's own connection has no header's address.
            PublicAddress::FromProxy => reached.through.map_or(local, ipv4),
        }
    }

    /// Looks the name or the Service up, if there is one; the last answer stays when that fails.
    pub(in crate::edge) async fn resolve(&self) {
        match &self.rule {
            PublicAddress::Dns(name) => match lookup(name).await {
                Ok(answers) => self.accept(name, &answers),
                Err(error) => {
                    tracing::error!(%name, %error, "public address cannot be looked up, the last one stays");
                }
            },
            PublicAddress::Service(wanted) => match service::addresses(wanted).await {
                Ok(answers) => self.accept(&wanted.name, &answers),
                Err(error) => {
                    let (service, error) = (&wanted.name, error.to_string());
                    tracing::error!(%service, error, "public address cannot be read, the last one stays");
                }
            },
            _ => {}
        }
    }

    /// Looks it up again and again; never returns.
    pub(in crate::edge) async fn keep_resolved(&self) {
        if !matches!(self.rule, PublicAddress::Dns(_) | PublicAddress::Service(_)) {
            return std::future::pending().await;
        }
        loop {
            sleep(if self.current().is_some() {
                REFRESH
            } else {
                FIRST
            })
            .await;
            self.resolve().await;
        }
    }

    fn current(&self) -> Option<Ipv4Addr> {
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, name: &str, answers: &[Ipv4Addr]) {
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&first) = answers.first() else {
            tracing::error!(%name, "public address has no IPv4 address, the last one stays");
            return;
        };
        // Name servers turn the order of several addresses around: keep to one while it is there.
        if !resolved.is_some_and(|current| answers.contains(&current)) {
            tracing::info!(%name, address = %first, "public address");
            *resolved = Some(first);
        }
    }
}

/// The IPv4 addresses of a host name.
pub(super) async fn lookup(name: &str) -> io::Result<Vec<Ipv4Addr>> {
    let answers = timeout(LOOKUP, tokio::net::lookup_host((name, 0)))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(answers.filter_map(|address| ipv4(address.ip())).collect())
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(rule: PublicAddress, client: &str, through: Option<&str>) -> Option<String> {
        let reached = Reached {
            client: client.parse().unwrap(),
            local: "10.0.0.5".parse().unwrap(),
            through: through.map(|address| address.parse().unwrap()),
        };
        let address = PublicAddresses::new(rule).choose(reached);
        address.map(|address| address.to_string())
    }

    #[test]
    fn address_is_chosen_as_configured() {
        let by_client = || {
            PublicAddress::ByClient(vec![
                (
                    "192.168.0.0/16".parse().unwrap(),
                    Ipv4Addr::new(192, 168, 1, 1),
                ),
                ("192.0.0.0/8".parse().unwrap(), Ipv4Addr::new(192, 0, 0, 1)),
            ])
        };
        let fixed = PublicAddress::Fixed(Ipv4Addr::new(203, 0, 113, 10));
        for (rule, client, through, expected) in [
            (
                PublicAddress::Connection,
                "1.2.3.4",
                Some("9.9.9.9"),
                Some("10.0.0.5"),
            ),
            (fixed, "1.2.3.4", None, Some("203.0.113.10")),
            (
                PublicAddress::FromProxy,
                "1.2.3.4",
                Some("9.9.9.9"),
                Some("9.9.9.9"),
            ),
            (
                PublicAddress::FromProxy,
                "1.2.3.4",
                Some("2001:db8::1"),
                None,
            ),
            (PublicAddress::FromProxy, "1.2.3.4", None, Some("10.0.0.5")),
            (by_client(), "192.168.7.7", None, Some("192.168.1.1")),
            (by_client(), "::ffff:192.168.7.7", None, Some("192.168.1.1")),
            (by_client(), "192.1.1.1", None, Some("192.0.0.1")),
            (by_client(), "8.8.8.8", None, Some("10.0.0.5")),
            (PublicAddress::Dns("name".to_owned()), "1.2.3.4", None, None),
        ] {
            let what = format!("{rule:?} for {client}");
            assert_eq!(choose(rule, client, through).as_deref(), expected, "{what}");
        }
    }

    #[test]
    fn name_keeps_its_address_while_the_answer_has_it_and_when_there_is_none() {
        let name = PublicAddresses::new(PublicAddress::Dns("name".to_owned()));
        let [one, two] = [1, 2].map(|last| Ipv4Addr::new(10, 0, 0, last));
        let current = || *name.resolved.lock().unwrap();
        name.accept("name", &[one, two]);
        assert_eq!(current(), Some(one));
        name.accept("name", &[two, one]);
        assert_eq!(current(), Some(one));
        name.accept("name", &[]);
        assert_eq!(current(), Some(one));
        name.accept("name", &[two]);
        assert_eq!(current(), Some(two));
    }
}
