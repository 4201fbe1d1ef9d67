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

#[cfg(test)]
mod tests {
    use super::super::tests::{to_client, versions};
    use super::*;

    fn broker(id: i32, host: &'static str, port: i32) -> DescribeClusterBroker {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(id))
            .with_host(host.into())
            .with_port(port)
            .with_rack(Some("rack".into()))
    }

    #[test]
    fn everything_is_virtual() {
        for version in versions::<DescribeClusterRequest>() {
            let resp = DescribeClusterResponse::default()
                .with_cluster_id("east".into())
                .with_controller_id(BrokerId(9))
                .with_brokers(vec![
                    broker(2, "east-2", 1).with_is_fenced(version >= 2),
                    broker(1, "east-1", 1),
                    broker(9, "east-9", 1),
                ]);
            let want = DescribeClusterResponse::default()
                .with_cluster_id("virtual-cluster".into())
                .with_controller_id(BrokerId(101))
                .with_brokers(vec![broker(102, "v102", 9102).with_is_fenced(version >= 2), broker(101, "v101", 9101)]);
            assert_eq!(to_client(version, &DescribeClusterRequest::default(), &resp), want, "v{version}");
        }
    }

    #[test]
    fn controllers_are_not_shown_and_errors_stay() {
        let req = DescribeClusterRequest::default().with_endpoint_type(2);
        let listed = DescribeClusterResponse::default().with_endpoint_type(2).with_brokers(vec![broker(1, "c", 1)]);
        assert!(to_client(1, &req, &listed).brokers.is_empty());
        let mismatched = DescribeClusterResponse::default().with_error_code(114);
        assert_eq!(to_client(1, &req, &mismatched), mismatched);
    }
}
