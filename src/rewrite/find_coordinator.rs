//! FindCoordinator (key 10): the coordinator's id and address, one (v0-3) or a list (v4+, KIP-699).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::Translate;
use super::ids::endpoint_out;

/// A coordinator without a virtual identity is not available: clients ask again.
const NO_COORDINATOR: i16 = ResponseError::CoordinatorNotAvailable.code();

/// Addresses and ids out. Entries that carry an error have none.
pub fn response(_req: &FindCoordinatorRequest, resp: &mut FindCoordinatorResponse, t: &dyn Translate) {
    // From v4 on the top-level fields are not on the wire and must keep their defaults: a coordinator has a host.
    if resp.error_code == 0
        && !resp.host.is_empty()
        && !endpoint_out(t, &mut resp.node_id, &mut resp.host, &mut resp.port)
    {
        resp.error_code = NO_COORDINATOR;
        (resp.node_id, resp.host, resp.port) = nowhere();
    }
    for c in &mut resp.coordinators {
        if c.error_code == 0 && !endpoint_out(t, &mut c.node_id, &mut c.host, &mut c.port) {
            c.error_code = NO_COORDINATOR;
            (c.node_id, c.host, c.port) = nowhere();
        }
    }
}

fn nowhere() -> (BrokerId, StrBytes, i32) {
    (BrokerId(-1), StrBytes::new(), -1)
}

/// A reply in which every key of `req` carries `code`.
pub fn error(req: &FindCoordinatorRequest, version: i16, code: i16) -> FindCoordinatorResponse {
    let (node_id, host, port) = nowhere();
    if version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(code)
            .with_error_message(None)
            .with_node_id(node_id)
            .with_host(host)
            .with_port(port);
    }
    let entry = |key: &StrBytes| {
        Coordinator::default()
            .with_key(key.clone())
            .with_error_code(code)
            .with_error_message(None)
            .with_node_id(node_id)
            .with_host(host.clone())
            .with_port(port)
    };
    FindCoordinatorResponse::default().with_coordinators(req.coordinator_keys.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{made_up, to_client, versions};
    use super::*;

    fn reply(version: i16, code: i16, node: i32, host: &'static str, port: i32) -> FindCoordinatorResponse {
        let (node, host) = (BrokerId(node), StrBytes::from_static_str(host));
        if version < 4 {
            let resp = FindCoordinatorResponse::default().with_error_code(code);
            return resp
                .with_node_id(node)
                .with_host(host)
                .with_port(port)
                .with_error_message(default_message(version));
        }
        let c = Coordinator::default().with_key("g".into()).with_error_code(code).with_error_message(None);
        let c = c.with_node_id(node).with_host(host).with_port(port);
        FindCoordinatorResponse::default().with_coordinators(vec![c])
    }

    /// v0 has no message on the wire, and the codec then gives its default.
    fn default_message(version: i16) -> Option<StrBytes> {
        (version == 0).then(StrBytes::new)
    }

    fn asked(version: i16) -> FindCoordinatorRequest {
        if version < 4 {
            FindCoordinatorRequest::default().with_key("g".into())
        } else {
            FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".into()])
        }
    }

    #[test]
    fn coordinators_are_virtual_or_not_available() {
        for version in [0, 3, 4, versions::<FindCoordinatorRequest>()[1]] {
            for (code, node, host, port, want) in [
                (0, 2, "east-2", 19093, (0, 102, "v102", 9102)),
                (0, 9, "east-9", 19099, (15, -1, "", -1)),
                (16, -1, "", -1, (16, -1, "", -1)),
            ] {
                let got = to_client(version, &asked(version), &reply(version, code, node, host, port));
                assert_eq!(got, reply(version, want.0, want.1, want.2, want.3), "v{version}");
            }
        }
    }

    #[test]
    fn no_keys_no_coordinators() {
        let (req, resp) = (FindCoordinatorRequest::default(), FindCoordinatorResponse::default());
        assert!(to_client(6, &req, &resp).coordinators.is_empty());
    }

    #[test]
    fn a_made_up_error_answers_every_key() {
        for version in [0, 3, 4, versions::<FindCoordinatorRequest>()[1]] {
            assert_eq!(made_up(version, &asked(version), 15), reply(version, 15, -1, "", -1), "v{version}");
        }
    }
}
