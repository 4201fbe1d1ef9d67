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
