//! The small written forms of the configuration file: durations, sizes, `host:port` and port ranges.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// An address to dial; the host may be a name.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct HostPort {
    /// Name or IP address, an IPv6 one without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One port per virtual broker: the address to listen on and the first and last port, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    pub ip: IpAddr,
    pub from: u16,
    pub to: u16,
}

impl PortRange {
    /// How many virtual brokers fit.
    pub fn count(&self) -> usize {
        usize::from(self.to.saturating_sub(self.from)) + 1
    }

    /// The address of the `n`th virtual broker, counted from 0; `None` past the end of the range.
    pub fn nth(&self, n: usize) -> Option<SocketAddr> {
        let port = usize::from(self.from).checked_add(n)?;
        let port = u16::try_from(port).ok().filter(|port| *port <= self.to)?;
        Some(SocketAddr::new(self.ip, port))
    }

    /// Whether listening on `addr` would take one of this range's ports.
    pub fn overlaps(&self, addr: SocketAddr) -> bool {
        let same_host = self.ip == addr.ip() || self.ip.is_unspecified() || addr.ip().is_unspecified();
        same_host && (self.from..=self.to).contains(&addr.port())
    }
}

/// `250ms`, `30s`, `5m`, `1h`: a whole number and a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "a duration such as \"250ms\", \"30s\", \"5m\" or \"1h\"";
    let (number, unit) = split_number(text).ok_or_else(|| expected(text, FORM))?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(expected(text, FORM)),
    };
    millis.map(Duration::from_millis).ok_or_else(|| format!("`{text}` is too long a time"))
}

/// `512B`, `64KiB`, `100MiB`, `1GiB`: a whole number of bytes, in powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    const FORM: &str = "a size such as \"512B\", \"64KiB\", \"100MiB\" or \"1GiB\"";
    let (number, unit) = split_number(text).ok_or_else(|| expected(text, FORM))?;
    let bytes = match unit {
        "B" => Some(number),
        "KiB" => number.checked_mul(1 << 10),
        "MiB" => number.checked_mul(1 << 20),
        "GiB" => number.checked_mul(1 << 30),
        _ => return Err(expected(text, FORM)),
    };
    bytes.ok_or_else(|| format!("`{text}` is too large a size"))
}

/// `host:port`, an IPv6 host in brackets; port 0 is refused.
pub fn host_port(text: &str) -> Result<HostPort, String> {
    const FORM: &str = "\"host:port\"";
    let (host, port) = split_host(text).ok_or_else(|| expected(text, FORM))?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| expected(text, FORM))?;
    Ok(HostPort { host: host.to_owned(), port })
}

/// `ip:port` to listen on. A host name is refused: what it resolves to could change between starts.
pub fn socket_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| expected(text, "an IP address and a port such as \"127.0.0.1:9092\""))
}

/// `ip:from-to`, at least one port.
pub fn port_range(text: &str) -> Result<PortRange, String> {
    const FORM: &str = "an IP address and a port range such as \"127.0.0.1:9100-9199\"";
    let parsed = || {
        let (host, ports) = split_host(text)?;
        let (from, to) = ports.split_once('-')?;
        let from: u16 = from.parse().ok().filter(|port| *port > 0)?;
        Some(PortRange { ip: host.parse().ok()?, from, to: to.parse().ok()? })
    };
    let range = parsed().ok_or_else(|| expected(text, FORM))?;
    if range.to < range.from {
        return Err(format!("the port range `{text}` ends before it starts"));
    }
    Ok(range)
}

/// A duration as the file would write it.
pub fn show_duration(value: Duration) -> String {
    let millis = value.as_millis();
    match millis {
        0 => "0ms".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

/// A size as the file would write it.
pub fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

fn expected(text: &str, form: &str) -> String {
    format!("`{text}` is not {form}")
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

fn split_host(text: &str) -> Option<(&str, &str)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => text.rsplit_once(':').filter(|(host, _)| !host.contains(':'))?,
    };
    let sound = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '[' | ']' | '@'));
    sound.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "1 s", "1d", "30S"] {
            let error = duration(text).unwrap_err();
            assert_eq!(error, format!("`{text}` is not a duration such as \"250ms\", \"30s\", \"5m\" or \"1h\""));
        }
        assert_eq!(duration("18446744073709551615h").unwrap_err(), "`18446744073709551615h` is too long a time");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("512B", 512), ("64KiB", 65_536), ("100MiB", 104_857_600), ("1GiB", 1_073_741_824)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(show_size(bytes), text);
        }
        for text in ["", "64", "64KB", "64k", "-1B", "1.5MiB"] {
            assert!(size(text).unwrap_err().contains("is not a size such as"), "{text}");
        }
        assert_eq!(size("18446744073709551615GiB").unwrap_err(), "`18446744073709551615GiB` is too large a size");
    }

    #[test]
    fn addresses() {
        let dial = |text: &str| host_port(text).map(|found| (found.host, found.port));
        assert_eq!(dial("kafka-1.example:9092"), Ok(("kafka-1.example".to_owned(), 9092)));
        assert_eq!(dial("[::1]:9092"), Ok(("::1".to_owned(), 9092)));
        for text in ["kafka", "kafka:", ":9092", "kafka:0", "kafka:65536", "::1:9092", "tcp://a:1", "a b:1"] {
            assert_eq!(host_port(text).unwrap_err(), format!("`{text}` is not \"host:port\""));
        }
        assert!(socket_addr("localhost:9092").unwrap_err().contains("is not an IP address and a port"));
    }

    #[test]
    fn port_ranges() {
        let range = port_range("127.0.0.1:9100-9102").unwrap();
        assert_eq!(range.count(), 3);
        assert_eq!(range.nth(2), Some("127.0.0.1:9102".parse().unwrap()));
        assert_eq!(range.nth(3), None);
        assert_eq!(port_range("[::1]:1-65535").unwrap().count(), 65_535);
        for (at, taken) in
            [("127.0.0.1:9102", true), ("0.0.0.0:9100", true), ("127.0.0.1:9103", false), ("127.0.0.2:9100", false)]
        {
            assert_eq!(range.overlaps(at.parse().unwrap()), taken, "{at}");
        }
        assert_eq!(port_range("127.0.0.1:2-1").unwrap_err(), "the port range `127.0.0.1:2-1` ends before it starts");
        for text in ["127.0.0.1:9100", "localhost:1-2", "127.0.0.1:0-5", "127.0.0.1:1-70000", "1-2"] {
            assert!(port_range(text).unwrap_err().contains("is not an IP address and a port range"), "{text}");
        }
    }

    #[test]
    fn shown_as_written() {
        for text in ["250ms", "30s", "5m", "1h", "90s", "0ms"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
    }
}
