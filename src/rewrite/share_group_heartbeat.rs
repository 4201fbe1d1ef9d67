//! ShareGroupHeartbeat (key 76, KIP-932): member epochs, topic ids of assigned partitions. Subscriptions are names.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};

use super::Translate;
use super::ids::topic_id_out;

const UNKNOWN_MEMBER_ID: i16 = ResponseError::UnknownMemberId.code();
const GROUP_ID_NOT_FOUND: i16 = ResponseError::GroupIdNotFound.code();
/// At which clients join anew by themselves; GROUP_ID_NOT_FOUND ends KIP-848 consumers of Java, whose code is the same.
const FENCED_MEMBER_EPOCH: i16 = ResponseError::FencedMemberEpoch.code();

/// The member epoch in; hidden topics cannot be subscribed to.
pub fn request(req: &mut ShareGroupHeartbeatRequest, t: &dyn Translate) {
    req.member_epoch = t.member_epoch_in(req.member_epoch);
    if let Some(names) = &mut req.subscribed_topic_names {
        names.retain(|name| !t.hidden(name));
    }
}

/// Topic ids and the member epoch out. A member that the cluster does not know may be left from before a cutover: it is to join
/// anew, and one that leaves has left.
pub fn response(req: &ShareGroupHeartbeatRequest, resp: &mut ShareGroupHeartbeatResponse, t: &dyn Translate) {
    if matches!(resp.error_code, UNKNOWN_MEMBER_ID | GROUP_ID_NOT_FOUND) {
        match req.member_epoch {
            1.. => resp.error_code = FENCED_MEMBER_EPOCH,
            0 => {}
            _ => *resp = left(req),
        }
    }
    resp.member_epoch = t.member_epoch_out(resp.member_epoch);
    for topic in resp.assignment.iter_mut().flat_map(|a| &mut a.topic_partitions) {
        topic_id_out(t, None, &mut topic.topic_id);
    }
}

fn left(req: &ShareGroupHeartbeatRequest) -> ShareGroupHeartbeatResponse {
    ShareGroupHeartbeatResponse::default()
        .with_member_id(Some(req.member_id.clone()))
        .with_member_epoch(req.member_epoch)
}

/// The answer to a member of an earlier generation: it is to join anew.
pub fn rejoin(req: &ShareGroupHeartbeatRequest) -> ShareGroupHeartbeatResponse {
    ShareGroupHeartbeatResponse::default()
        .with_error_code(FENCED_MEMBER_EPOCH)
        .with_member_id(Some(req.member_id.clone()))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::share_group_heartbeat_response::{Assignment, TopicPartitions};

    use super::super::tests::{HIDDEN, MEMBER_MARK, name, real_id, to_client, to_cluster, versions, virtual_id};
    use super::*;

    fn beat(epoch: i32) -> ShareGroupHeartbeatRequest {
        ShareGroupHeartbeatRequest::default().with_member_id("m".into()).with_member_epoch(epoch)
    }

    #[test]
    fn epochs_both_ways_ids_out_and_no_hidden_topic() {
        for version in versions::<ShareGroupHeartbeatRequest>() {
            let subscribed =
                |names: &[&str]| beat(0).with_subscribed_topic_names(Some(names.iter().map(|n| name(n)).collect()));
            assert_eq!(to_cluster(version, &subscribed(&["orders", HIDDEN])), subscribed(&["orders"]));
            assert_eq!(to_cluster(version, &beat(MEMBER_MARK + 3)), beat(3), "v{version}");
            assert_eq!(to_cluster(version, &beat(-1)), beat(-1));
            let answer = |epoch, id| {
                let topic = TopicPartitions::default().with_topic_id(id).with_partitions(vec![4]);
                let assignment = Assignment::default().with_topic_partitions(vec![topic]);
                ShareGroupHeartbeatResponse::default().with_member_epoch(epoch).with_assignment(Some(assignment))
            };
            let got = to_client(version, &beat(0), &answer(4, real_id(1)));
            assert_eq!(got, answer(MEMBER_MARK + 4, virtual_id(1)), "v{version}");
        }
    }

    #[test]
    fn a_member_that_is_not_known_joins_anew_or_has_left() {
        let refused = |code| ShareGroupHeartbeatResponse::default().with_error_code(code);
        for code in [UNKNOWN_MEMBER_ID, GROUP_ID_NOT_FOUND] {
            assert_eq!(to_client(1, &beat(MEMBER_MARK + 3), &refused(code)).error_code, FENCED_MEMBER_EPOCH);
            assert_eq!(to_client(1, &beat(0), &refused(code)).error_code, code);
            assert_eq!(to_client(1, &beat(-1), &refused(code)), left(&beat(-1)));
        }
        assert_eq!(to_client(1, &beat(MEMBER_MARK + 3), &refused(16)).error_code, 16);
    }
}
