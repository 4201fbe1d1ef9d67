use serde_json::{Value, json};

use super::*;
use crate::admin::fake::{Fake, served};

struct Got {
    status: u16,
    kind: String,
    text: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// One request over a real socket; `method` may be followed by `name=value` headers.
async fn ask(base: &str, method: &str, path: &str, body: &str) -> Got {
    let mut words = method.split(' ');
    let mut request = ureq::http::Request::builder().method(words.next().unwrap()).uri(format!("{base}{path}"));
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        request = request.header(name, value);
    }
    let request = request.body(body.to_owned()).unwrap();
    let sent = tokio::task::spawn_blocking(move || {
        let agent = ureq::Agent::from(ureq::Agent::config_builder().http_status_as_error(false).build());
        let mut response = agent.run(request).unwrap();
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let text = response.body_mut().read_to_string().unwrap();
        Got { status: response.status().as_u16(), kind: kind.unwrap_or_default(), text }
    });
    sent.await.unwrap()
}

#[tokio::test]
async fn reads() {
    let base = served(&Arc::default(), None).await;
    let got = ask(&base, "GET", "/v1/status", "").await;
    assert_eq!((got.status, got.kind.as_str()), (200, "application/json"));
    assert_eq!(got.json()["partitions"][0]["stream"], "tee");
    assert_eq!(ask(&base, "GET", "/v1/reports", "").await.json()[0]["generation"], 1);
    assert_eq!(ask(&base, "GET", "/v1/reports/1", "").await.json()["outcome"], "done");
    let got = ask(&base, "GET", "/v1/translate?topic=t&partition=0&offset=7&cluster=west", "").await;
    assert_eq!(got.json()["cluster_offsets"], json!({"west":6}));
    let got = ask(&base, "GET", "/metrics", "").await;
    assert!(got.kind.starts_with("text/plain; version=0.0.4"), "{}", got.kind);
    assert!(got.text.contains("\nkafka_standby_generation 0\n"), "{}", got.text);
    assert_eq!(ask(&base, "GET", "/livez", "").await.text, "ok\n");
}

#[tokio::test]
async fn readiness_tells_why_not() {
    let fake = Arc::<Fake>::default();
    let base = served(&fake, None).await;
    assert_eq!(ask(&base, "GET", "/readyz", "").await.status, 200);
    *fake.not_ready.lock() = vec!["west cannot be reached".to_owned(), "no witness".to_owned()];
    let got = ask(&base, "GET", "/readyz", "").await;
    assert_eq!((got.status, got.kind.as_str()), (503, "application/problem+json"));
    assert_eq!(got.json()["reasons"], json!(["west cannot be reached", "no witness"]));
    assert_eq!(ask(&base, "GET", "/livez", "").await.status, 200);
}

#[tokio::test]
async fn errors_are_problems() {
    let base = served(&Arc::default(), None).await;
    for (method, path, body, status, detail) in [
        ("GET", "/v1/nothing", "", 404, "no such path"),
        ("GET", "/v1/failover", "", 405, "another method"),
        ("GET", "/v1/reports/x", "", 400, "`x` is not a generation"),
        ("GET", "/v1/reports/9", "", 404, "no cutover began generation 9"),
        ("GET", "/v1/translate?topic=t", "", 400, "missing field `partition`"),
        ("GET", "/v1/translate?topic=gone&partition=0&offset=1", "", 503, "east cannot be reached"),
        ("POST", "/v1/switchover", "{", 400, "the body is not what is expected"),
        ("POST", "/v1/switchover", r#"{"dryrun":true}"#, 400, "unknown field `dryrun`"),
        ("POST", "/v1/reload", "", 400, "k.toml:1:1: unknown key `x`"),
        ("POST Origin=http://evil.example", "/v1/failover", "", 403, "loopback"),
    ] {
        let got = ask(&base, method, path, body).await;
        let problem = got.json();
        assert_eq!((got.status, got.kind.as_str()), (status, "application/problem+json"), "{path}");
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{path}: {problem}");
    }
    let got = ask(&base, "POST", "/v1/switchover", &" ".repeat(MAX_BODY + 1)).await;
    assert_eq!(got.status, 413);
}

#[tokio::test]
async fn cutovers() {
    let fake = Arc::<Fake>::default();
    let base = served(&fake, None).await;
    let got = ask(&base, "POST", "/v1/switchover", "").await;
    assert_eq!((got.status, got.json()["kind"].clone()), (200, json!("switchover")));
    let got = ask(&base, "POST", "/v1/failover", r#"{"dry_run":true,"timeout_ms":500}"#).await;
    assert_eq!((got.status, got.json()["dry_run"].clone()), (200, json!(true)));
    assert_eq!(*fake.asked.lock(), ["switchover false None", "failover true Some(500)"]);
    for outcome in [Outcome::Refused, Outcome::RolledBack] {
        *fake.outcome.lock() = Some(outcome);
        let got = ask(&base, "POST", "/v1/switchover", "{}").await;
        assert_eq!((got.status, got.kind.as_str()), (409, "application/json"));
        assert_eq!(got.json()["outcome"], outcome.name());
        assert_eq!(got.json()["reasons"], json!(["west is not in sync"]));
    }
}

#[tokio::test]
async fn phases_are_streamed() {
    let base = served(&Arc::default(), None).await;
    let got = ask(&base, "POST Accept=application/x-ndjson", "/v1/switchover", "").await;
    assert_eq!((got.status, got.kind.as_str()), (200, "application/x-ndjson"));
    let events: Vec<CutoverEvent> = got.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 6);
    assert!(matches!(&events[0], CutoverEvent::Phase(phase) if phase.name.name() == "preflight"));
    assert!(matches!(&events[5], CutoverEvent::Report(report) if report.generation == 1));
}

#[tokio::test]
async fn verify_takes_the_topic_from_body_or_query() {
    let fake = Arc::<Fake>::default();
    let base = served(&fake, None).await;
    assert_eq!(ask(&base, "POST", "/v1/verify", "").await.json()["equal"], false);
    ask(&base, "POST", "/v1/verify?topic=q", "").await;
    ask(&base, "POST", "/v1/verify?topic=q", r#"{"topic":"b"}"#).await;
    assert_eq!(*fake.asked.lock(), ["verify None", "verify Some(\"q\")", "verify Some(\"b\")"]);
}

#[tokio::test]
async fn the_token_is_asked_for() {
    let base = served(&Arc::default(), Some("s3cret")).await;
    assert_eq!(ask(&base, "GET", "/v1/status", "").await.status, 401);
    assert_eq!(ask(&base, "GET", "/metrics", "").await.status, 401);
    assert_eq!(ask(&base, "GET", "/readyz", "").await.status, 200);
    let document = ureq::http::Request::get(format!("{base}/v1/status")).header("Authorization", "Bearer s3cret");
    let document = document.body(()).unwrap();
    let status = tokio::task::spawn_blocking(move || ureq::run(document).unwrap().status()).await.unwrap();
    assert_eq!(status, 200);
}

/// Each path of the document answers, and each route is in the document.
#[tokio::test]
async fn the_document_is_whole() {
    let base = served(&Arc::default(), None).await;
    let document = ask(&base, "GET", "/v1/openapi.json", "").await.json();
    let paths = document["paths"].as_object().unwrap();
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let got = ask(&base, &method.to_uppercase(), &path.replace("{generation}", "1"), "").await;
            assert!(![404, 405].contains(&got.status), "{method} {path}: {}", got.status);
        }
    }
    let routes = include_str!("../http.rs").matches(".route(\"").count();
    assert_eq!(paths.len(), routes);
}
