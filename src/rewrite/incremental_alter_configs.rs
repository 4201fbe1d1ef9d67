//! IncrementalAlterConfigs (key 44, KIP-339): broker ids among the resource names, both ways.

use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::Translate;
use super::config_resources::{Asked, hidden, name_in};
use super::ids::UNKNOWN_TOPIC_OR_PARTITION;

/// Resource names in.
pub fn request(req: &mut IncrementalAlterConfigsRequest, t: &dyn Translate) {
    req.resources.retain(|r| !hidden(t, r.resource_type, &r.resource_name));
    for r in &mut req.resources {
        r.resource_name = name_in(t, r.resource_type, &r.resource_name);
    }
}

/// Resource names out.
pub fn response(req: &IncrementalAlterConfigsRequest, resp: &mut IncrementalAlterConfigsResponse, t: &dyn Translate) {
    let mut asked = Asked::new(t, req.resources.iter().map(|r| (r.resource_type, &r.resource_name)));
    for r in &mut resp.responses {
        asked.name_out(r.resource_type, &mut r.resource_name);
    }
    for r in req.resources.iter().filter(|r| hidden(t, r.resource_type, &r.resource_name)) {
        resp.responses.push(
            AlterConfigsResourceResponse::default()
                .with_resource_type(r.resource_type)
                .with_resource_name(r.resource_name.clone())
                .with_error_code(UNKNOWN_TOPIC_OR_PARTITION)
                .with_error_message(None),
        );
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;

    use super::super::tests::{HIDDEN, to_client, to_cluster, versions};
    use super::*;

    #[test]
    fn broker_names_both_ways_hidden_topics_refused() {
        for version in versions::<IncrementalAlterConfigsRequest>() {
            let request_of = |names: &[(i8, &str)]| {
                let resource = |(kind, name): &(i8, &str)| {
                    AlterConfigsResource::default()
                        .with_resource_type(*kind)
                        .with_resource_name(name.to_string().into())
                };
                IncrementalAlterConfigsRequest::default().with_resources(names.iter().map(resource).collect())
            };
            let reply_of = |names: &[(i8, &str, i16)]| {
                let result = |(kind, name, code): &(i8, &str, i16)| {
                    AlterConfigsResourceResponse::default()
                        .with_resource_type(*kind)
                        .with_resource_name(name.to_string().into())
                        .with_error_code(*code)
                        .with_error_message(None)
                };
                IncrementalAlterConfigsResponse::default().with_responses(names.iter().map(result).collect())
            };
            let req = request_of(&[(4, "102"), (8, "103"), (4, ""), (4, "7"), (2, "102"), (2, HIDDEN)]);
            let want = request_of(&[(4, "2"), (8, "3"), (4, ""), (4, "2147483647"), (2, "102")]);
            assert_eq!(to_cluster(version, &req), want, "v{version}");

            let resp =
                reply_of(&[(2, "102", 0), (4, "", 0), (4, "2", 0), (8, "3", 0), (4, "2147483647", 42), (4, "1", 0)]);
            let want = reply_of(&[
                (2, "102", 0),
                (4, "", 0),
                (4, "102", 0),
                (8, "103", 0),
                (4, "7", 42),
                (4, "101", 0),
                (2, HIDDEN, 3),
            ]);
            assert_eq!(to_client(version, &req, &resp), want, "v{version}");
        }
    }
}
