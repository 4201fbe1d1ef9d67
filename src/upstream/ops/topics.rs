//! Creating, growing, configuring and deleting topics.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use kafka_protocol::protocol::VersionRange;

use super::{millis, name, topic_name};
use crate::upstream::cluster::{Cluster, Lane, Target};
use crate::upstream::error::{KafkaError, Kind, UpstreamError, code};
use crate::upstream::retry::Retry;

/// Configuration entries by key.
pub type Configs = BTreeMap<String, String>;

/// `ConfigResource.Type.TOPIC`.
const RESOURCE_TOPIC: i8 = 2;
/// `ConfigResource.Type.GROUP`.
pub(super) const RESOURCE_GROUP: i8 = 32;
/// `DescribeConfigsResponse.ConfigSource.TOPIC_CONFIG`: set on the topic itself.
const SOURCE_TOPIC: i8 = 1;
/// `GROUP_CONFIG`: set for the group itself.
pub(super) const SOURCE_GROUP: i8 = 8;
/// `AlterConfigOp.OpType`.
const OP_SET: i8 = 0;
const OP_DELETE: i8 = 1;
/// Topics in one DescribeConfigs request: keeps replies (some 30 entries a topic) well under a megabyte.
const DESCRIBE_CHUNK: usize = 200;
/// DeleteTopics has its topics as structures from version 6 on (KIP-516); Kafka 2.8 and later.
const DELETE_TOPICS: VersionRange = VersionRange { min: 6, max: i16::MAX };

impl Cluster {
    /// Creates a topic and waits until all its partitions have a leader. With `validate_only` nothing is created.
    /// `partitions` and `replication` of -1 mean the broker's default (KIP-464).
    ///
    /// Errors: TOPIC_ALREADY_EXISTS (also when an earlier attempt of ours got through and its reply was lost).
    pub async fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i16,
        configs: &Configs,
        validate_only: bool,
    ) -> Result<(), UpstreamError> {
        let configs = configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(name(key)).with_value(Some(name(value))));
        let wanted = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(replication)
            .with_configs(configs.collect());
        let mut retry = Retry::new(self);
        loop {
            let req = CreateTopicsRequest::default()
                .with_topics(vec![wanted.clone()])
                .with_timeout_ms(millis(retry.left()))
                .with_validate_only(validate_only);
            let reply = self.call_retrying(&mut retry, Target::Controller, &req).await?;
            let result = reply.topics.first().map(|t| (t.error_code, t.error_message.as_deref()));
            match self.verdict("CreateTopics", result) {
                Ok(()) if validate_only => return Ok(()),
                Ok(()) => return self.wait_for_leaders(&mut retry, topic, partitions).await,
                Err(e) => retry.pause(e).await?,
            }
        }
    }

    /// Raises a topic's partition count to `total` and waits until the new partitions have leaders.
    ///
    /// Errors: INVALID_PARTITIONS if the topic has as many or more.
    pub async fn create_partitions(&self, topic: &str, total: i32) -> Result<(), UpstreamError> {
        let wanted =
            CreatePartitionsTopic::default().with_name(topic_name(topic)).with_count(total).with_assignments(None);
        let mut retry = Retry::new(self);
        loop {
            let req = CreatePartitionsRequest::default()
                .with_topics(vec![wanted.clone()])
                .with_timeout_ms(millis(retry.left()));
            let reply = self.call_retrying(&mut retry, Target::Controller, &req).await?;
            let result = reply.results.first().map(|t| (t.error_code, t.error_message.as_deref()));
            match self.verdict("CreatePartitions", result) {
                Ok(()) => return self.wait_for_leaders(&mut retry, topic, total).await,
                Err(e) => retry.pause(e).await?,
            }
        }
    }

    /// Deletes a topic and its records.
    ///
    /// Errors: UNKNOWN_TOPIC_OR_PARTITION (also when an earlier attempt of ours got through and its reply was lost).
    pub async fn delete_topic(&self, topic: &str) -> Result<(), UpstreamError> {
        let wanted = DeleteTopicState::default().with_name(Some(topic_name(topic)));
        let mut retry = Retry::new(self);
        loop {
            let req =
                DeleteTopicsRequest::default().with_topics(vec![wanted.clone()]).with_timeout_ms(millis(retry.left()));
            let left = retry.left();
            let result = self.call_within(Target::Controller, Lane::Control, &req, DELETE_TOPICS, left).await;
            let result = result.and_then(|reply| {
                let result = reply.responses.first().map(|t| (t.error_code, t.error_message.as_deref()));
                self.verdict("DeleteTopics", result)
            });
            match result {
                Ok(()) => {
                    self.mark_stale();
                    return Ok(());
                }
                Err(e) => retry.pause(e).await?,
            }
        }
    }

    /// The entries that were set on each topic itself, not inherited. Sensitive values are left out, since brokers do not
    /// tell them.
    pub async fn topic_configs(
        &self,
        topics: &[&str],
    ) -> Result<HashMap<Arc<str>, Result<Configs, KafkaError>>, UpstreamError> {
        self.describe_configs(RESOURCE_TOPIC, topics, None, |entry| entry.config_source == SOURCE_TOPIC).await
    }

    /// The values in force for the named keys of one topic, wherever they come from. Keys that the broker does not have
    /// are left out.
    pub async fn effective_configs(&self, topic: &str, keys: &[&str]) -> Result<Configs, UpstreamError> {
        let results = self.describe_configs(RESOURCE_TOPIC, &[topic], Some(keys), |_| true).await?;
        self.only(results, topic)
    }

    /// The wanted settings of one resource.
    pub(super) async fn described(
        &self,
        resource: i8,
        of: &str,
        wanted: impl Fn(&DescribeConfigsResourceResult) -> bool,
    ) -> Result<Configs, UpstreamError> {
        let results = self.describe_configs(resource, &[of], None, wanted).await?;
        self.only(results, of)
    }

    fn only(
        &self,
        mut results: HashMap<Arc<str>, Result<Configs, KafkaError>>,
        of: &str,
    ) -> Result<Configs, UpstreamError> {
        let missing = || Err(KafkaError::new(code::UNKNOWN_SERVER_ERROR, Some("no answer")));
        let result = results.remove(of).unwrap_or_else(missing);
        result.map_err(|e| self.error("DescribeConfigs", Kind::Kafka(e)))
    }

    /// Sets and deletes single entries of a topic; the others stay (KIP-339).
    pub async fn alter_topic_configs(&self, topic: &str, set: &Configs, delete: &[&str]) -> Result<(), UpstreamError> {
        self.alter_configs(RESOURCE_TOPIC, topic, set, delete).await
    }

    pub(super) async fn alter_configs(
        &self,
        resource: i8,
        of: &str,
        set: &Configs,
        delete: &[&str],
    ) -> Result<(), UpstreamError> {
        if set.is_empty() && delete.is_empty() {
            return Ok(());
        }
        let sets = set.iter().map(|(key, value)| {
            AlterableConfig::default().with_name(name(key)).with_config_operation(OP_SET).with_value(Some(name(value)))
        });
        let deletes = delete.iter().map(|key| {
            AlterableConfig::default().with_name(name(key)).with_config_operation(OP_DELETE).with_value(None)
        });
        let resource = AlterConfigsResource::default()
            .with_resource_type(resource)
            .with_resource_name(name(of))
            .with_configs(sets.chain(deletes).collect());
        let req = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let mut retry = Retry::new(self);
        loop {
            let reply = self.call_retrying(&mut retry, Target::Controller, &req).await?;
            let result = reply.responses.first().map(|r| (r.error_code, r.error_message.as_deref()));
            match self.verdict("IncrementalAlterConfigs", result) {
                Ok(()) => return Ok(()),
                Err(e) => retry.pause(e).await?,
            }
        }
    }

    async fn describe_configs(
        &self,
        resource: i8,
        of: &[&str],
        keys: Option<&[&str]>,
        wanted: impl Fn(&DescribeConfigsResourceResult) -> bool,
    ) -> Result<HashMap<Arc<str>, Result<Configs, KafkaError>>, UpstreamError> {
        let mut retry = Retry::new(self);
        let mut configs = HashMap::with_capacity(of.len());
        for chunk in of.chunks(DESCRIBE_CHUNK) {
            let resources = chunk.iter().map(|of| {
                DescribeConfigsResource::default()
                    .with_resource_type(resource)
                    .with_resource_name(name(of))
                    .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| name(key)).collect()))
            });
            let req = DescribeConfigsRequest::default().with_resources(resources.collect());
            let reply = self.call_retrying(&mut retry, Target::Any, &req).await?;
            for result in reply.results {
                let entries = if result.error_code == code::NONE {
                    let entries = result.configs.iter().filter(|entry| wanted(entry));
                    Ok(entries.filter_map(|e| Some((e.name.to_string(), e.value.as_ref()?.to_string()))).collect())
                } else {
                    Err(KafkaError::new(result.error_code, result.error_message.as_deref()))
                };
                configs.insert(Arc::from(result.resource_name.as_str()), entries);
            }
        }
        Ok(configs)
    }

    /// Waits until the metadata shows leaders for this many partitions of a topic.
    async fn wait_for_leaders(&self, retry: &mut Retry<'_>, topic: &str, partitions: i32) -> Result<(), UpstreamError> {
        loop {
            let snapshot = match self.refresh_by(retry.deadline()).await {
                Ok(snapshot) => snapshot,
                Err(e) => {
                    retry.pause(e).await?;
                    continue;
                }
            };
            let led = snapshot.topic(topic).map_or(0, |t| t.partitions.values().filter(|p| p.leader.is_some()).count());
            if led > 0 && i32::try_from(led).is_ok_and(|led| led >= partitions) {
                return Ok(());
            }
            if !retry.sleep().await {
                let message = format!("{topic} was created, but only {led} of its partitions have leaders yet");
                return Err(self.kafka_error("CreateTopics", code::LEADER_NOT_AVAILABLE, Some(&message)));
            }
        }
    }

    /// The error code of a reply about a single thing; `None` if the reply did not mention it.
    pub(super) fn verdict(&self, what: &'static str, result: Option<(i16, Option<&str>)>) -> Result<(), UpstreamError> {
        match result {
            Some((code::NONE, _)) => Ok(()),
            Some((code, message)) => Err(self.kafka_error(what, code, message)),
            None => Err(self.error(what, Kind::Protocol("the reply is empty".into()))),
        }
    }
}
