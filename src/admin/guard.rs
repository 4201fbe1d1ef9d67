//! Who may ask: the token, and, on a loopback address without one, that the question does not come from a web page.
//!
//! Any page in a browser on the same machine can send a form to `http://127.0.0.1:9080/v1/failover`, or name its own host
//! and have that resolve to 127.0.0.1. The browser tells on it: by `Origin`, and by a `Host` that is not loopback.

use std::net::IpAddr;

use axum::http::{HeaderMap, StatusCode, Uri, header};

use super::types::Problem;
use crate::config::Secret;

/// Probes of an orchestrator carry no token, and these two tell nothing worth one.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

pub(super) fn check(token: Option<&Secret>, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if OPEN.contains(&uri.path()) {
        return Ok(());
    }
    match token {
        Some(token) => bearer(token, headers),
        None => local(headers),
    }
}

fn bearer(token: &Secret, headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if same(given.as_bytes(), token.reveal().as_bytes()) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNAUTHORIZED, "this API needs the token as `Authorization: Bearer ...`"))
}

/// Takes the same time wherever the texts differ, so that a token cannot be guessed byte by byte.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    given.len() == wanted.len() && given.iter().zip(wanted).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

fn local(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or("localhost");
    let own_origin = text(header::ORIGIN).is_none_or(|origin| origin.strip_prefix("http://") == Some(host));
    if own_origin && is_loopback(host) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "without a token this API answers only to its own loopback address"))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(token: Option<&str>, path: &str, headers: &[(header::HeaderName, &str)]) -> Option<u16> {
        let token = token.map(|text| Secret::new(text.to_owned()));
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        check(token.as_ref(), &path.parse().unwrap(), &headers).err().map(|problem| problem.status)
    }

    #[test]
    fn loopback_only_without_a_token() {
        for (host, origin, refused) in [
            ("127.0.0.1:9080", None, None),
            ("localhost:9080", None, None),
            ("[::1]:9080", None, None),
            ("127.0.0.1:9080", Some("http://127.0.0.1:9080"), None),
            ("127.0.0.1:9080", Some("http://evil.example"), Some(403)),
            ("127.0.0.1:9080", Some("null"), Some(403)),
            ("evil.example:9080", None, Some(403)),
            ("127.0.0.1.evil.example", None, Some(403)),
        ] {
            let mut headers = vec![(header::HOST, host)];
            headers.extend(origin.map(|origin| (header::ORIGIN, origin)));
            assert_eq!(asked(None, "/v1/failover", &headers), refused, "{host} {origin:?}");
        }
    }

    #[test]
    fn token() {
        let with = |value| [(header::HOST, "proxy.example"), (header::AUTHORIZATION, value)];
        assert_eq!(asked(Some("abc"), "/v1/status", &with("Bearer abc")), None);
        for wrong in ["Bearer abd", "Bearer ab", "Bearer ", "abc", "Basic abc"] {
            assert_eq!(asked(Some("abc"), "/v1/status", &with(wrong)), Some(401), "{wrong}");
        }
        assert_eq!(asked(Some("abc"), "/v1/status", &[]), Some(401));
        assert_eq!(asked(Some("abc"), "/livez", &[]), None);
    }
}
