//! Passive data connections and PROXY headers of a listener.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};

use super::super::{
    DataPeer, KubernetesService, Passive, ProxyHeader, ProxyProtocol, PublicAddress,
    typed::{Item, Table, Text},
    yaml::Node,
};

/// Ports for data connections when a listener names none.
const PORTS: RangeInclusive<u16> = 50000..=50100;
/// A balancer sends its header with the connection: longer waits are slips.
const HEADER_SECONDS: RangeInclusive<u64> = 1..=60;
/// Names of the API server inside a cluster and of the place of an account's files, as Kubernetes sets
/// them up.
const API: &str = "https://kubernetes.default.svc";
const ACCOUNT_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Longer than any URL of an API server or key of an annotation is (253 and 63 characters).
const SERVICE_TEXT_BYTES: usize = 512;
/// As long as a name in DNS can be (RFC 1035 §2.3.4).
const NAME_BYTES: usize = 253;

pub(super) const PASSIVE: [&str; 4] = ["address", "ports", "ports_per_user", "data_peer"];
pub(super) const ADDRESS: [&str; 3] = ["dns", "by_client", "service"];
pub(super) const SERVICE: [&str; 5] = [
    "name",
    "namespace",
    "annotation",
    "api",
    "account_directory",
];
pub(super) const BY_CLIENT: [&str; 2] = ["clients", "address"];
pub(super) const PROXY_PROTOCOL: [&str; 4] =
    ["control", "data", "trusted_networks", "header_seconds"];

const DATA_PEERS: [(&str, DataPeer); 3] = [
    ("same-address", DataPeer::SameAddress),
    ("same-subnet", DataPeer::SameSubnet),
    ("any", DataPeer::Any),
];
const PROXY_HEADERS: [(&str, ProxyHeader); 2] = [
    ("off", ProxyHeader::Off),
    ("required", ProxyHeader::Required),
];

/// The keys `passive` and `proxy_protocol` of a listener.
pub(super) fn passive_and_proxy(listener: &Table<'_>) -> Option<(Passive, ProxyProtocol)> {
    let passive = listener.section("passive", &PASSIVE);
    let passive = passive.and_then(|table| passive_of(&table));
    let proxy = listener.section("proxy_protocol", &PROXY_PROTOCOL);
    let proxy = proxy.and_then(|table| proxy_protocol(&table));
    let (passive, proxy) = (passive?, proxy?);
    if passive.address == PublicAddress::FromProxy && proxy.control == ProxyHeader::Off {
        listener.error(
            "passive",
            "`address: from_proxy` needs `proxy_protocol: {control: required, …}`",
        );
        return None;
    }
    Some((passive, proxy))
}

fn passive_of(table: &Table<'_>) -> Option<Passive> {
    let address = public_address(table);
    let ports = ports(table);
    let default_share = ports.as_ref().map_or(1, share);
    let ports_per_user = table.integer("ports_per_user", default_share, 1..=usize::from(u16::MAX));
    let data_peer = table.choice_or("data_peer", &DATA_PEERS, DataPeer::SameAddress);
    Some(Passive {
        address: address?,
        ports: ports?,
        ports_per_user: ports_per_user?,
        data_peer: data_peer?,
    })
}

/// A quarter: three users who take all they can still leave room for a fourth.
fn share(ports: &RangeInclusive<u16>) -> usize {
    if *ports.end() == 0 {
        return usize::from(u16::MAX);
    }
    (ports.len() / 4).max(1)
}

fn public_address(table: &Table<'_>) -> Option<PublicAddress> {
    const EXPECTED: &str = "an IPv4 address, `connection`, `from_proxy`, {dns: NAME}, {by_client: LIST} or {service: {name: NAME}}";
    table.default("address", Node::String("connection".to_owned()));
    let Some(item) = table.item("address") else {
        return Some(PublicAddress::Connection);
    };
    if item.is_table_without(&["env", "file"]) {
        let choice = item.table(&ADDRESS)?;
        return match choice.only_one(&ADDRESS) {
            Some("dns") => dns(&choice),
            Some("by_client") => by_client(&choice),
            Some("service") => service(&choice).map(PublicAddress::Service),
            _ => {
                item.error(format!("expected {EXPECTED}"));
                None
            }
        };
    }
    let text = item.text(EXPECTED)?;
    match text.value.as_str() {
        "connection" => return Some(PublicAddress::Connection),
        "from_proxy" => return Some(PublicAddress::FromProxy),
        _ => {}
    }
    reachable_ipv4(&item, &text.value, text.shown(), EXPECTED).map(PublicAddress::Fixed)
}

fn dns(choice: &Table<'_>) -> Option<PublicAddress> {
    const EXPECTED: &str = "a host name such as ftp.example.com";
    let text = choice.text("dns", EXPECTED)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = text.value.len() <= NAME_BYTES && text.value.chars().all(fits);
    if !is_name || text.parse::<IpAddr>().is_some() {
        choice.error(
            "dns",
            format!("expected {EXPECTED}, found {}", text.shown()),
        );
        return None;
    }
    Some(PublicAddress::Dns(text.value))
}

fn by_client(choice: &Table<'_>) -> Option<PublicAddress> {
    let items = choice.list("by_client", "a list of {clients: NETWORK, address: IPV4}")?;
    let rule = |item: &Item<'_>| {
        let rule = item.table(&BY_CLIENT)?;
        let clients = rule
            .required("clients", NETWORK)
            .and_then(|item| network(&item));
        let address = rule
            .required("address", "an IPv4 address")
            .and_then(|item| {
                let text = item.text("an IPv4 address")?;
                reachable_ipv4(&item, &text.value, text.shown(), "an IPv4 address")
            });
        Some((clients?, address?))
    };
    let rules: Vec<_> = items.iter().map(rule).collect();
    rules
        .into_iter()
        .collect::<Option<_>>()
        .map(PublicAddress::ByClient)
}

fn service(choice: &Table<'_>) -> Option<KubernetesService> {
    let table = choice.table("service", &SERVICE)?;
    let name = table
        .text("name", "the name of a Service")
        .and_then(|text| object_name(&table, "name", &text));
    let namespace = match table.optional_text("namespace", "the namespace of the Service")? {
        Some(text) => Some(object_name(&table, "namespace", &text)?),
        None => None,
    };
    let annotation = table.optional_text("annotation", "the key of an annotation");
    table.default("api", Node::String(API.to_owned()));
    let api = match table.optional_text("api", "the URL of the API server")? {
        Some(text) => {
            let is_url =
                text.value.starts_with("https://") && text.value.len() <= SERVICE_TEXT_BYTES;
            if !is_url {
                let message = format!(
                    "expected a URL that begins with https://, found {}",
                    text.shown()
                );
                table.error("api", message);
                return None;
            }
            text.value.trim_end_matches('/').to_owned()
        }
        None => API.to_owned(),
    };
    let directory = Node::String(ACCOUNT_DIRECTORY.to_owned());
    table.default("account_directory", directory);
    let account_directory = table.optional_file("account_directory", "a directory")?;
    let account_directory = account_directory.unwrap_or_else(|| PathBuf::from(ACCOUNT_DIRECTORY));
    Some(KubernetesService {
        name: name?,
        namespace,
        annotation: annotation?.map(|text| text.value),
        api,
        account_directory,
    })
}

/// A name of a Kubernetes object, which becomes part of a URL (RFC 1123 label).
fn object_name(table: &Table<'_>, key: &str, text: &Text) -> Option<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.value.len() <= 63 && text.value.chars().all(fits) {
        return Some(text.value.clone());
    }
    let message = "expected small letters, digits and `-`, 63 at most, found";
    table.error(key, format!("{message} {}", text.shown()));
    None
}

/// An address that a 227 reply can carry.
fn reachable_ipv4(item: &Item<'_>, value: &str, shown: &str, expected: &str) -> Option<Ipv4Addr> {
    match value.parse() {
        Ok(IpAddr::V4(ip)) if ip != Ipv4Addr::UNSPECIFIED => return Some(ip),
        Ok(IpAddr::V4(_)) => item.error(
            "0.0.0.0 is no address that a client can reach; leave the key out for the address the client reached",
        ),
        Ok(IpAddr::V6(_)) => item.error(
            "the 227 reply holds an IPv4 address only; IPv6 clients use EPSV, which needs none",
        ),
        Err(_) => item.error(format!("expected {expected}, found {shown}")),
    }
    None
}

fn proxy_protocol(table: &Table<'_>) -> Option<ProxyProtocol> {
    let default = ProxyProtocol::default();
    let control = table.choice_or("control", &PROXY_HEADERS, default.control);
    let data = table.choice_or("data", &PROXY_HEADERS, default.data);
    let trusted_networks = networks(table, "trusted_networks");
    let header = table.integer("header_seconds", default.header.as_secs(), HEADER_SECONDS);
    let proxy = ProxyProtocol {
        control: control?,
        data: data?,
        trusted_networks: trusted_networks?,
        header: Duration::from_secs(header?),
    };
    let required = [proxy.control, proxy.data].contains(&ProxyHeader::Required);
    if required && proxy.trusted_networks.is_empty() {
        table.error(
            "trusted_networks",
            "missing: whoever may send headers may claim any address, so name the networks of the load balancers",
        );
        return None;
    }
    Some(proxy)
}

const NETWORK: &str = "a network such as 10.0.0.0/8 or fd00::/8, or one address";

pub(super) fn networks(table: &Table<'_>, key: &str) -> Option<Vec<IpNet>> {
    table.default(key, Node::Sequence(Vec::new()));
    let items = table.optional_list(key, "a list of networks such as 10.0.0.0/8")?;
    let networks: Vec<_> = items.iter().map(network).collect();
    networks.into_iter().collect()
}

/// `::ffff:192.0.2.0/120` is the IPv4 network that it carries, as addresses of clients are compared.
pub(crate) fn plain_network(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let carried = v6
        .addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(96));
    let plain = carried.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    plain.map_or(network, IpNet::V4)
}

fn network(item: &Item<'_>) -> Option<IpNet> {
    let text = item.text(NETWORK)?;
    let network = text
        .parse::<IpNet>()
        .or_else(|| text.parse::<IpAddr>().map(IpNet::from));
    if network.is_none() {
        item.error(format!("expected {NETWORK}, found {}", text.shown()));
    }
    network.map(plain_network)
}

fn ports(table: &Table<'_>) -> Option<RangeInclusive<u16>> {
    const EXPECTED: &str = "ports such as \"50000-50100\", one port, or 0 for any free one";
    let default = format!("{}-{}", PORTS.start(), PORTS.end());
    table.default("ports", Node::String(default));
    let (text, shown) = if let Some(port) = table.bare_integer("ports", &(0..=65535)) {
        (port.to_string(), format!("the number {port}"))
    } else {
        let Some(text) = table.optional_text("ports", EXPECTED)? else {
            return Some(PORTS);
        };
        (text.value.clone(), text.shown().to_owned())
    };
    let (start, end) = text.split_once('-').unwrap_or((&text, &text));
    let port = |text: &str| text.trim().parse::<u16>().ok();
    let (Some(start), Some(end)) = (port(start), port(end)) else {
        table.error("ports", format!("expected {EXPECTED}, found {shown}"));
        return None;
    };
    let problem = match (start, end) {
        (0, 0) => None,
        _ if start > end => Some("the range ends before it starts"),
        _ if start < 1024 => Some("ports below 1024 are not for data connections"),
        _ => None,
    };
    if let Some(problem) = problem {
        table.error(
            "ports",
            format!("{problem}: expected {EXPECTED}, found {shown}"),
        );
        return None;
    }
    Some(start..=end)
}
