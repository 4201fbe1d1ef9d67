//! The cluster: access, quotas, credentials, disks.

use bytes::Bytes;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;

use super::{READ, Reply, Side, TOPIC};
use crate::wire::raw::{self, text, topic_name};

pub fn cluster(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
    // All kinds of operation and permission, as a filter.
    const ANY: i8 = 1;
    let name = side.own("name");
    let reply = match api {
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default();
            side.ask(
                version,
                match version >= 3 {
                    true => request.with_client_software_name(text("raw")).with_client_software_version(text("1")),
                    false => request,
                },
            )
        }
        ApiKey::DescribeCluster => side.ask(version, DescribeClusterRequest::default()),
        ApiKey::DescribeAcls => {
            let request = DescribeAclsRequest::default().with_resource_type_filter(ANY).with_pattern_type_filter(ANY);
            side.ask(version, request.with_operation(ANY).with_permission_type(ANY))
        }
        ApiKey::CreateAcls => {
            let acl = AclCreation::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(&name))
                .with_resource_pattern_type(3)
                .with_principal(text("User:someone"))
                .with_host(text("*"))
                .with_operation(3)
                .with_permission_type(3);
            side.ask(version, CreateAclsRequest::default().with_creations(vec![acl]))
        }
        ApiKey::DeleteAcls => {
            // Also what the case before made, so that nothing is left.
            let filter = DeleteAclsFilter::default()
                .with_resource_type_filter(TOPIC)
                .with_resource_name_filter(Some(text(&name)))
                .with_pattern_type_filter(ANY)
                .with_operation(ANY)
                .with_permission_type(ANY);
            side.ask(version, DeleteAclsRequest::default().with_filters(vec![filter]))
        }
        ApiKey::AlterReplicaLogDirs => {
            let topic = AlterReplicaLogDirTopic::default().with_name(topic_name(READ)).with_partitions(vec![0]);
            let dir = AlterReplicaLogDir::default().with_path(text("/no/such/directory")).with_topics(vec![topic]);
            side.ask(version, AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]))
        }
        ApiKey::DescribeLogDirs => {
            let topic = DescribableLogDirTopic::default().with_topic(topic_name(READ)).with_partitions(vec![0]);
            let request = DescribeLogDirsRequest::default().with_topics(Some(vec![topic]));
            // Version 5 changed the reply only, and the codec does not have it.
            let body = raw::encode(version.min(4), &request);
            side.raw.push_body(DescribeLogDirsRequest::KEY, version, &body);
            let mut frame = side.raw.frame().expect("a reply").to_vec();
            if version >= 4 {
                // The space on the disk, which others use too: two int64 in front of one directory's and the reply's tags,
                // and from version 5 on of a flag.
                let end = frame.len() - 2 - usize::from(version >= 5);
                frame[end - 16..end].fill(0);
            }
            Reply { frame: frame.into(), text: None }
        }
        ApiKey::CreateDelegationToken => {
            side.ask(version, CreateDelegationTokenRequest::default().with_max_lifetime_ms(60_000))
        }
        ApiKey::RenewDelegationToken => {
            side.ask(version, RenewDelegationTokenRequest::default().with_hmac(Bytes::from_static(b"hmac")))
        }
        ApiKey::ExpireDelegationToken => {
            side.ask(version, ExpireDelegationTokenRequest::default().with_hmac(Bytes::from_static(b"hmac")))
        }
        ApiKey::DescribeDelegationToken => side.ask(version, DescribeDelegationTokenRequest::default()),
        ApiKey::DescribeClientQuotas => side.ask(version, DescribeClientQuotasRequest::default()),
        ApiKey::AlterClientQuotas => {
            let entity = EntityData::default().with_entity_type(text("user")).with_entity_name(Some(text(&name)));
            let op = OpData::default().with_key(text("producer_byte_rate")).with_value(1e9);
            let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![op]);
            side.ask(version, AlterClientQuotasRequest::default().with_entries(vec![entry]))
        }
        ApiKey::DescribeUserScramCredentials => {
            side.ask(version, DescribeUserScramCredentialsRequest::default().with_users(None))
        }
        ApiKey::AlterUserScramCredentials => {
            let credential = ScramCredentialUpsertion::default()
                .with_name(text(&name))
                .with_mechanism(1)
                .with_iterations(4096)
                .with_salt(Bytes::from_static(b"salt"))
                .with_salted_password(Bytes::from_static(b"01234567890123456789012345678901"));
            side.ask(version, AlterUserScramCredentialsRequest::default().with_upsertions(vec![credential]))
        }
        ApiKey::ListConfigResources => side.ask(version, ListConfigResourcesRequest::default()),
        _ => return None,
    };
    Some(reply)
}
