//! A client of the API: finds it, asks it, and sorts what can go wrong into exit codes.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Request, Response, StatusCode, Uri, header};
use ureq::{Agent, Body};

use super::args::Api;
use super::{Exit, Failure};
use crate::admin::types::{CutoverEvent, CutoverKind, CutoverRequest, PhaseDone, Problem, Report};
use crate::config::{Admin, Config};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions that a proxy answers from memory or with a few requests to a cluster.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);
/// A status of a hundred thousand partitions fits.
const MAX_ANSWER: u64 = 256 << 20;
/// The default of `[admin] bind`.
const DEFAULT_URL: &str = "http://127.0.0.1:9080";
const TOKEN_VARIABLE: &str = "KAFKA_STANDBY_TOKEN";
const NDJSON: &str = "application/x-ndjson";

pub(super) struct Client {
    agent: Agent,
    /// Without a slash at its end.
    base: String,
    token: Option<String>,
}

impl Client {
    /// By `--admin`, `KAFKA_STANDBY_ADMIN`, the configuration file, or the default address.
    pub(super) fn find(api: &Api) -> Result<Client, Failure> {
        let usage = |error: &dyn ToString| Failure::new(Exit::Usage, error.to_string());
        let admin = match &api.config {
            Some(file) => Some(Config::load(file).map_err(|error| usage(&error))?.admin),
            None => None,
        };
        let given = api.admin.clone().filter(|url| !url.is_empty());
        let base = given.or_else(|| admin.as_ref().map(url)).unwrap_or_else(|| DEFAULT_URL.to_owned());
        let token = match &api.token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text = text.map_err(|error| usage(&format!("{}: {error}", file.display())))?;
                Some(text.trim().to_owned())
            }
            None => std::env::var(TOKEN_VARIABLE)
                .ok()
                .or_else(|| admin.and_then(|admin| admin.token).map(|token| token.reveal().to_owned())),
        };
        Client::new(&base, token)
    }

    pub(super) fn new(base: &str, token: Option<String>) -> Result<Client, Failure> {
        let sound = base.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        if !sound {
            return Err(Failure::new(Exit::Usage, format!("`{base}` is not an address such as {DEFAULT_URL}")));
        }
        // A proxy for the web has no business between an operator and a loopback address.
        let config = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .build();
        Ok(Client { agent: config.into(), base: base.trim_end_matches('/').to_owned(), token })
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self.request("GET", path, "application/json").body(String::new());
        self.answer(self.send(request, Some(QUESTION_TIMEOUT))?)
    }

    /// As [`Self::get`], for what a proxy reads from a cluster's log first.
    pub(super) fn get_slowly<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self.request("GET", path, "application/json").body(String::new());
        self.answer(self.send(request, None)?)
    }

    /// An answer of any length, as it comes.
    pub(super) fn stream(&self, path: &str) -> Result<Box<dyn BufRead>, Failure> {
        let request = self.request("GET", path, "application/octet-stream").body(String::new());
        let response = self.send(request, None)?;
        if response.status() != StatusCode::OK {
            return self.answer(response).and_then(|()| Err(self.foreign()));
        }
        Ok(Box::new(BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader())))
    }

    /// Waits as long as it takes: comparing two clusters may take hours.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let request = self.request("POST", path, "application/json").body(encode(body));
        self.answer(self.send(request, None)?)
    }

    /// Starts a cutover and tells of each phase as it ends.
    pub(super) fn cutover(
        &self,
        kind: CutoverKind,
        request: &CutoverRequest,
        mut on_phase: impl FnMut(&PhaseDone),
    ) -> Result<Report, Failure> {
        let path = format!("/v1/{}", kind.name());
        let request = self.request("POST", &path, NDJSON).body(encode(request));
        let response = self.send(request, None)?;
        if response.status() != StatusCode::OK {
            return self.answer(response);
        }
        let lines = BufReader::new(response.into_body().into_with_config().limit(MAX_ANSWER).reader()).lines();
        for line in lines {
            let line = line.map_err(|error| broken_off(&error.to_string()))?;
            match serde_json::from_str(&line).map_err(|_| self.foreign())? {
                CutoverEvent::Phase(phase) => on_phase(&phase),
                CutoverEvent::Report(report) => return Ok(*report),
                CutoverEvent::Error(problem) => return Err(failed(problem)),
            }
        }
        Err(broken_off("no report came"))
    }

    fn request(&self, method: &str, path: &str, accept: &str) -> ureq::http::request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = request.header(header::ACCEPT, accept).header(header::CONTENT_TYPE, "application/json");
        match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    fn send(
        &self,
        request: ureq::http::Result<Request<String>>,
        timeout: Option<Duration>,
    ) -> Result<Response<Body>, Failure> {
        let request = request.map_err(|error| Failure::new(Exit::Usage, error))?;
        let request = self.agent.configure_request(request).timeout_global(timeout).build();
        let unreachable = |error| Failure::new(Exit::Unreachable, format!("no API at {}: {error}", self.base));
        self.agent.run(request).map_err(unreachable)
    }

    fn answer<T: DeserializeOwned>(&self, mut response: Response<Body>) -> Result<T, Failure> {
        let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let text = text.map_err(|error| Failure::new(Exit::Unreachable, format!("{}: {error}", self.base)))?;
        if response.status().is_success() {
            return serde_json::from_str(&text).map_err(|_| self.foreign());
        }
        Err(serde_json::from_str(&text).map_or_else(|_| self.foreign(), failed))
    }

    fn foreign(&self) -> Failure {
        Failure::new(Exit::Unreachable, format!("what answers at {} is not this program's API", self.base))
    }
}

/// An address to dial for the address that the API listens on.
fn url(admin: &Admin) -> String {
    let mut addr = admin.bind;
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{addr}")
}

/// Percent-encodes a value of a query.
pub(super) fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn encode(body: &impl Serialize) -> String {
    // Plain structs with string keys always serialize.
    serde_json::to_string(body).unwrap_or_default()
}

fn failed(problem: Problem) -> Failure {
    let usage = matches!(problem.status, 400 | 401 | 403);
    Failure::new(if usage { Exit::Usage } else { Exit::Failed }, problem.detail)
}

fn broken_off(why: &str) -> Failure {
    let message = format!("the answer broke off ({why}); the cutover may have gone on: see `status` and `report`");
    Failure::new(Exit::Failed, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn addresses() {
        for (bind, dialled) in [
            ("127.0.0.1:9080", "http://127.0.0.1:9080"),
            ("0.0.0.0:1", "http://127.0.0.1:1"),
            ("[::]:1", "http://[::1]:1"),
            ("10.0.0.1:1", "http://10.0.0.1:1"),
        ] {
            assert_eq!(url(&Admin { bind: bind.parse().unwrap(), token: None }), dialled);
        }
        for wrong in ["localhost:9080", "https://h:1", "", "http://"] {
            let failure = Client::new(wrong, None).err().map(|failure| failure.exit);
            assert_eq!(failure, Some(Exit::Usage), "{wrong}");
        }
        assert_eq!(quoted("a b&c/ü.x"), "a%20b%26c%2F%C3%BC.x");
    }

    #[test]
    fn nobody_there() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = Client::new(&format!("http://{free}"), None).unwrap().get::<()>("/v1/status").unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.starts_with("no API at http://127.0.0.1:"), "{failure}");
    }
}
