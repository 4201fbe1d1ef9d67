//! Topics, their settings and their replicas.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::*;

use super::{BROKER, READ, Reply, Side, TIMEOUT_MS, TOPIC};
use crate::wire::raw::{text, topic_name};

pub fn topics(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
    let reply = match api {
        ApiKey::Metadata => {
            use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
            let by_name = |name| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            let mut topics = vec![by_name(READ), by_name("nothing")];
            if version >= 12 {
                let id = side.raw.topic_id("api-x");
                topics.push(MetadataRequestTopic::default().with_topic_id(id).with_name(None));
            }
            let request = MetadataRequest::default().with_topics(Some(topics));
            side.ask(version, request.with_allow_auto_topic_creation(version < 4))
        }
        ApiKey::DescribeTopicPartitions => {
            use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
            let topics = [READ, "nothing"].map(|name| TopicRequest::default().with_name(topic_name(name)));
            side.ask(version, DescribeTopicPartitionsRequest::default().with_topics(topics.into()))
        }
        ApiKey::CreateTopics => {
            let name = side.own("made");
            side.create(version, &name).0
        }
        ApiKey::DeleteTopics => {
            let name = side.created("gone");
            let request = DeleteTopicsRequest::default().with_timeout_ms(TIMEOUT_MS);
            let request = match version >= 6 {
                false => request.with_topic_names(vec![topic_name(&name)]),
                true => request.with_topics(vec![
                    DeleteTopicState::default().with_name(None).with_topic_id(side.raw.topic_id(&name)),
                ]),
            };
            side.ask(version, request)
        }
        ApiKey::CreatePartitions => {
            use kafka_protocol::messages::create_partitions_request::{
                CreatePartitionsAssignment, CreatePartitionsTopic,
            };
            let name = side.created("grown");
            let replicas = CreatePartitionsAssignment::default().with_broker_ids(vec![side.broker.into()]);
            let topic = CreatePartitionsTopic::default()
                .with_name(topic_name(&name))
                .with_count(2)
                .with_assignments(Some(vec![replicas]));
            side.ask(version, CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS))
        }
        ApiKey::DescribeConfigs => {
            use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
            let resource = |kind, name: &str, key| {
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(Some(vec![text(key)]))
            };
            let resources =
                vec![resource(TOPIC, READ, "retention.ms"), resource(BROKER, &side.broker_name(), "num.io.threads")];
            side.ask(version, DescribeConfigsRequest::default().with_resources(resources))
        }
        ApiKey::AlterConfigs => {
            use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
            let name = side.created("legacy");
            let resource = |kind, name: &str, key, value| {
                let config = AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
                let resource = AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
                resource.with_configs(vec![config])
            };
            let resources = vec![
                resource(TOPIC, &name, "retention.ms", "987654321"),
                resource(BROKER, &side.broker_name(), "log.cleaner.threads", "1"),
            ];
            let request = AlterConfigsRequest::default().with_resources(resources);
            side.ask(version, request)
        }
        ApiKey::IncrementalAlterConfigs => {
            use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
            let name = side.created("newer");
            let resource = |kind, name: &str, key, value| {
                let config = AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
                let resource = AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
                resource.with_configs(vec![config])
            };
            let resources = vec![
                resource(TOPIC, &name, "retention.ms", "987654321"),
                resource(BROKER, &side.broker_name(), "log.cleaner.threads", "1"),
            ];
            side.ask(version, IncrementalAlterConfigsRequest::default().with_resources(resources))
        }
        ApiKey::AlterPartitionReassignments => {
            use kafka_protocol::messages::alter_partition_reassignments_request::{
                ReassignablePartition, ReassignableTopic,
            };
            let replicas = Some(vec![side.broker.into()]);
            let partition = ReassignablePartition::default().with_partition_index(0).with_replicas(replicas);
            // A broker that neither side has.
            let nowhere = ReassignablePartition::default().with_partition_index(1).with_replicas(Some(vec![77.into()]));
            let topic = ReassignableTopic::default()
                .with_name(topic_name(&side.topic()))
                .with_partitions(vec![partition, nowhere]);
            let request = AlterPartitionReassignmentsRequest::default().with_timeout_ms(TIMEOUT_MS);
            side.ask(version, request.with_topics(vec![topic]))
        }
        ApiKey::ListPartitionReassignments => {
            let request = ListPartitionReassignmentsRequest::default().with_timeout_ms(TIMEOUT_MS);
            side.ask(version, request.with_topics(None))
        }
        ApiKey::ElectLeaders => {
            use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
            let topic = TopicPartitions::default().with_topic(topic_name(READ)).with_partitions(vec![0, 7]);
            let request = ElectLeadersRequest::default().with_timeout_ms(TIMEOUT_MS);
            side.ask(version, request.with_topic_partitions(Some(vec![topic])))
        }
        _ => return None,
    };
    Some(reply)
}
