//! DescribeCluster (key 60): cluster id, brokers, controller.
//!
//! A request for controllers (`endpoint_type` 2, KIP-919) is forwarded: a broker answers it with
//! MISMATCHED_ENDPOINT_TYPE. Should one ever list controllers, they are dropped, since none of them is virtual.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use super::Translate;
use super::ids::{controller_out, str_bytes};

const BROKERS: i8 = 1;

/// Cluster id, brokers and controller out.
pub fn response(_req: &DescribeClusterRequest, resp: &mut DescribeClusterResponse, t: &dyn Translate) {
    if resp.error_code == 0 {
        resp.cluster_id = str_bytes(t.cluster_id());
    }
    let mut real = std::mem::take(&mut resp.brokers);
    if resp.endpoint_type != BROKERS {
        real.clear();
    }
    let alive: Vec<i32> = real.iter().map(|b| b.broker_id.0).collect();
    let shown = t.brokers(&alive);
    resp.controller_id = controller_out(t, resp.controller_id, &shown);
    for (id, host, port) in shown {
        let behind = t.broker_in(id).and_then(|r| real.iter().find(|b| b.broker_id.0 == r));
        resp.brokers.push(
            DescribeClusterBroker::default()
                .with_broker_id(BrokerId(id))
                .with_host(host.into())
                .with_port(i32::from(port))
                .with_rack(behind.and_then(|b| b.rack.clone()))
                .with_is_fenced(behind.is_some_and(|b| b.is_fenced)),
        );
    }
}
