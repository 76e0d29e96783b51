//! The hosts that a function may call: `host` or `host:port`, no wildcards.

use crate::{Error, schema::Text};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A host, perhaps with a port, that a function may call over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: String,
    port: Option<u16>,
}

impl HostPort {
    pub(crate) const TEXT: Text = Text { noun: "host", pattern: "^([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]+)?$" };

    /// The host as it stands in a URL: a lower-case name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if one is written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether a call to this host and port is granted. Without a written port, the standard ones of HTTP and HTTPS are.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        self.host.eq_ignore_ascii_case(host) && self.port.map_or(matches!(port, 80 | 443), |granted| granted == port)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl FromStr for HostPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        read(text).map_err(|why| {
            let help = "write a host and, if it is not 80 or 443, its port, for example `api.example.com:8443`";
            Error::new("a `host` or `host:port`", text, why, help)
        })
    }
}

fn read(text: &str) -> Result<HostPort, &'static str> {
    if text.contains("://") {
        return Err("it has a scheme, which does not belong here");
    }
    if text.contains('/') {
        return Err("it has a path, and a grant is for a whole host");
    }
    if text.contains('*') {
        return Err("wildcards are not supported; name each host");
    }
    // An IPv6 address has colons of its own, so its brackets decide where the port begins.
    let (host, port) = match text.rfind(']') {
        Some(bracket) => match text.split_at(bracket + 1) {
            (host, "") => (host, None),
            (host, rest) => (host, Some(rest.strip_prefix(':').ok_or("only a port may follow the address")?)),
        },
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(read_port).transpose()?;
    Ok(HostPort { host: read_host(host)?, port })
}

fn read_port(port: &str) -> Result<u16, &'static str> {
    if port.contains(':') {
        return Err("an IPv6 address stands in brackets, like `[::1]`");
    }
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err("the port is not a number");
    }
    port.parse().ok().filter(|&port| port != 0).ok_or("a port is a number from 1 to 65535")
}

fn read_host(host: &str) -> Result<String, &'static str> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| "there is no IPv6 address in the brackets")?;
        return Ok(format!("[{address}]"));
    }
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.len() > 253 {
        return Err("a host name is at most 253 characters long");
    }
    // As in a URL: what ends with a number must be an address, or two spellings could mean one host.
    if host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        let address: Ipv4Addr = host.parse().map_err(|_| "it ends with a number, but it is no IPv4 address")?;
        return Ok(address.to_string());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !host.split('.').all(label) {
        return Err("a host name is letters, digits and `-`, in parts between dots");
    }
    Ok(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refused(text: &str, why: &str) {
        assert_eq!(HostPort::from_str(text).unwrap_err().why(), why);
    }

    #[test]
    fn good_ones_round_trip() {
        for text in ["api.example.com:443", "localhost", "10.0.0.1:80", "[::1]:8080", "[fe80::1]", "my_svc.ns"] {
            let host: HostPort = text.parse().unwrap();
            assert_eq!(host.to_string(), text);
        }
        assert_eq!("API.Example.Com".parse::<HostPort>().unwrap().host(), "api.example.com");
    }

    #[test]
    fn each_fault_is_told() {
        refused("", "the host is missing");
        refused(":80", "the host is missing");
        refused("https://a.b", "it has a scheme, which does not belong here");
        refused("a.b/c", "it has a path, and a grant is for a whole host");
        refused("*.a.b", "wildcards are not supported; name each host");
        refused("a:0", "a port is a number from 1 to 65535");
        refused("a:65536", "a port is a number from 1 to 65535");
        refused("a:+80", "the port is not a number");
        refused("a:", "the port is not a number");
        refused("::1", "an IPv6 address stands in brackets, like `[::1]`");
        refused("[::g]:1", "there is no IPv6 address in the brackets");
        refused("[::1]1", "only a port may follow the address");
        refused("1.2.3.999", "it ends with a number, but it is no IPv4 address");
        refused("a..b", "a host name is letters, digits and `-`, in parts between dots");
        refused("é.com", "a host name is letters, digits and `-`, in parts between dots");
        refused("user@a.b", "a host name is letters, digits and `-`, in parts between dots");
    }

    #[test]
    fn a_grant_without_a_port_means_the_standard_ones() {
        let any: HostPort = "a.b".parse().unwrap();
        assert!(
            any.allows("A.B", 443) && any.allows("a.b", 80) && !any.allows("a.b", 8080) && !any.allows("c.a.b", 443)
        );
        let one: HostPort = "a.b:8443".parse().unwrap();
        assert!(one.allows("a.b", 8443) && !one.allows("a.b", 443));
    }

    proptest! {
        #[test]
        fn what_is_taken_round_trips(text in "[a-c\\[\\]:.0-9-]{0,12}") {
            if let Ok(host) = text.parse::<HostPort>() {
                prop_assert_eq!(host.to_string().parse::<HostPort>().unwrap(), host);
            }
        }

        #[test]
        fn any_text_is_judged(text in any::<String>()) {
            let _ = text.parse::<HostPort>();
        }
    }
}
