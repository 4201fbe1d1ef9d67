//! A request that has been taken from a client and not answered yet.

use bytes::Bytes;

use super::produce::ProduceContext;
use super::shares;
use super::transactions::Asked;
use crate::wire::header::RequestHeader;

/// How the reply comes about.
pub enum Reply {
    /// From upstream, forwarded as bytes.
    Forward,
    /// From upstream, rewritten by the API's rule.
    Rewrite,
    /// As `Rewrite`, for a request that the broker answers without waiting for anything and notes something down with:
    /// a cutover waits for the reply.
    AtOnce,
    /// `plain`: the reply may be translated where it lies.
    Fetch { plain: bool },
    /// From upstream, to a JoinGroup that was sent in this version instead of the client's.
    Join(i16),
    /// Also where nothing was sent upstream because every batch is a retry that is stored already (`all_answered`).
    Produce(Box<ProduceContext>),
    /// From upstream, from a transaction's coordinator.
    Transaction(Box<Asked>),
    /// From upstream, to a share consumer.
    Share(Box<shares::Asked>),
    /// Made by the proxy: the whole reply frame.
    Local(Bytes),
}

pub struct Pending {
    pub header: RequestHeader,
    /// The client's frame as it came.
    pub frame: Bytes,
    pub reply: Reply,
}

impl Pending {
    pub fn body(&self) -> Bytes {
        self.frame.slice(self.header.body_offset.min(self.frame.len())..)
    }

    /// Nothing is awaited from upstream.
    pub fn is_answered(&self) -> bool {
        match &self.reply {
            Reply::Local(_) => true,
            Reply::Produce(context) => context.all_answered,
            _ => false,
        }
    }

    pub fn is_answered_at_once(&self) -> bool {
        matches!(self.reply, Reply::AtOnce)
    }

    /// May be asked again on another connection or cluster without harm, so a cutover does not wait for it: long polls,
    /// group requests that the new cluster is asked afresh, and what says the same however often it is said. A commit must be
    /// among them: behind a JoinGroup on its connection it would wait for members that the gate holds.
    pub fn can_be_cut(&self) -> bool {
        const CUTTABLE: [i16; 17] = [
            FETCH,
            LIST_OFFSETS,
            METADATA,
            OFFSET_COMMIT,
            OFFSET_FETCH,
            LEAVE_GROUP,
            DESCRIBE_GROUPS,
            FIND_COORDINATOR,
            JOIN_GROUP,
            SYNC_GROUP,
            HEARTBEAT,
            DESCRIBE_CLUSTER,
            CONSUMER_GROUP_HEARTBEAT,
            SHARE_GROUP_HEARTBEAT,
            SHARE_GROUP_DESCRIBE,
            SHARE_FETCH,
            DESCRIBE_SHARE_GROUP_OFFSETS,
        ];
        matches!(self.reply, Reply::Local(_)) || CUTTABLE.contains(&self.header.api_key)
    }
}

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const LIST_OFFSETS: i16 = 2;
pub const METADATA: i16 = 3;
pub const OFFSET_COMMIT: i16 = 8;
pub const OFFSET_FETCH: i16 = 9;
pub const FIND_COORDINATOR: i16 = 10;
pub const JOIN_GROUP: i16 = 11;
pub const HEARTBEAT: i16 = 12;
pub const LEAVE_GROUP: i16 = 13;
pub const SYNC_GROUP: i16 = 14;
pub const DESCRIBE_GROUPS: i16 = 15;
pub const API_VERSIONS: i16 = 18;
pub const CREATE_TOPICS: i16 = 19;
pub const DELETE_TOPICS: i16 = 20;
pub const DELETE_RECORDS: i16 = 21;
pub const INIT_PRODUCER_ID: i16 = 22;
pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
pub const ADD_OFFSETS_TO_TXN: i16 = 25;
pub const END_TXN: i16 = 26;
pub const TXN_OFFSET_COMMIT: i16 = 28;
pub const CREATE_PARTITIONS: i16 = 37;
pub const DESCRIBE_CLUSTER: i16 = 60;
pub const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
pub const SHARE_GROUP_HEARTBEAT: i16 = 76;
pub const SHARE_GROUP_DESCRIBE: i16 = 77;
pub const SHARE_FETCH: i16 = 78;
pub const SHARE_ACKNOWLEDGE: i16 = 79;
pub const DESCRIBE_SHARE_GROUP_OFFSETS: i16 = 90;
pub const ALTER_SHARE_GROUP_OFFSETS: i16 = 91;
pub const DELETE_SHARE_GROUP_OFFSETS: i16 = 92;

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(api_key: i16, reply: Reply) -> Pending {
        let (body_offset, flexible) = (0, false);
        let header =
            RequestHeader { api_key, api_version: 0, correlation_id: 0, client_id: None, body_offset, flexible };
        Pending { header, frame: Bytes::new(), reply }
    }

    #[test]
    fn a_commit_behind_a_parked_join_does_not_keep_a_cutover_waiting_and_a_produce_does() {
        let queue = [pending(JOIN_GROUP, Reply::Rewrite), pending(OFFSET_COMMIT, Reply::Rewrite)];
        assert!(queue.iter().all(Pending::can_be_cut));
        assert!(!pending(PRODUCE, Reply::Forward).can_be_cut());
        assert!(!pending(CREATE_TOPICS, Reply::Rewrite).can_be_cut());
    }
}
