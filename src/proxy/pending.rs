//! A request that has been taken from a client and not answered yet.

use bytes::Bytes;

use super::produce::ProduceContext;
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
    Fetch,
    /// From upstream, to a JoinGroup that was sent in this version instead of the client's.
    Join(i16),
    /// Also where nothing was sent upstream because every batch is a retry that is stored already (`all_answered`).
    Produce(Box<ProduceContext>),
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

    /// May be asked again on another connection or cluster without harm, so a cutover does not wait for it: long polls, and
    /// group requests that the new cluster is asked afresh.
    pub fn can_be_cut(&self) -> bool {
        const CUTTABLE: [i16; 9] = [
            FETCH,
            LIST_OFFSETS,
            METADATA,
            FIND_COORDINATOR,
            JOIN_GROUP,
            SYNC_GROUP,
            HEARTBEAT,
            DESCRIBE_CLUSTER,
            CONSUMER_GROUP_HEARTBEAT,
        ];
        matches!(self.reply, Reply::Local(_)) || CUTTABLE.contains(&self.header.api_key)
    }
}

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const LIST_OFFSETS: i16 = 2;
pub const METADATA: i16 = 3;
pub const OFFSET_COMMIT: i16 = 8;
pub const FIND_COORDINATOR: i16 = 10;
pub const JOIN_GROUP: i16 = 11;
pub const HEARTBEAT: i16 = 12;
pub const LEAVE_GROUP: i16 = 13;
pub const SYNC_GROUP: i16 = 14;
pub const API_VERSIONS: i16 = 18;
pub const CREATE_TOPICS: i16 = 19;
pub const DELETE_TOPICS: i16 = 20;
pub const DELETE_RECORDS: i16 = 21;
pub const INIT_PRODUCER_ID: i16 = 22;
pub const CREATE_PARTITIONS: i16 = 37;
pub const DESCRIBE_CLUSTER: i16 = 60;
pub const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
