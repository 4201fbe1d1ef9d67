//! DescribeConfigs (key 32): broker ids among the resource names, both ways.

use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::Translate;
use super::config_resources::{Asked, hidden, name_in};
use super::ids::UNKNOWN_TOPIC_OR_PARTITION;

/// Resource names in.
pub fn request(req: &mut DescribeConfigsRequest, t: &dyn Translate) {
    req.resources.retain(|r| !hidden(t, r.resource_type, &r.resource_name));
    for r in &mut req.resources {
        r.resource_name = name_in(t, r.resource_type, &r.resource_name);
    }
}

/// Resource names out.
pub fn response(req: &DescribeConfigsRequest, resp: &mut DescribeConfigsResponse, t: &dyn Translate) {
    let mut asked = Asked::new(t, req.resources.iter().map(|r| (r.resource_type, &r.resource_name)));
    for r in &mut resp.results {
        asked.name_out(r.resource_type, &mut r.resource_name);
    }
    for r in req.resources.iter().filter(|r| hidden(t, r.resource_type, &r.resource_name)) {
        resp.results.push(
            DescribeConfigsResult::default()
                .with_resource_type(r.resource_type)
                .with_resource_name(r.resource_name.clone())
                .with_error_code(UNKNOWN_TOPIC_OR_PARTITION)
                .with_error_message(None),
        );
    }
}
