use kafka_protocol::messages::GroupId;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::protocol::{Encodable, Request};

use super::*;
use crate::catalog::VirtualBrokers;
use crate::groups::NO_GENERATION;
use crate::model::ClusterIx;

fn view(generation: u32) -> Arc<View> {
    Arc::new(View {
        generation,
        active: ClusterIx::FIRST,
        cluster_id: "virtual".into(),
        brokers: VirtualBrokers::new("h".into(), 9100, vec![1], 1),
        catalog: Arc::default(),
        registrar: Arc::new(|_, _, _, _, _| unreachable!("no topics here")),
    })
}

fn header(api_key: i16, api_version: i16) -> RequestHeader {
    RequestHeader { api_key, api_version, correlation_id: 7, client_id: None, body_offset: 0, flexible: true }
}

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

fn group() -> GroupId {
    GroupId(text("g"))
}

fn body<M: Encodable>(message: &M, version: i16) -> Bytes {
    encode(message, version).unwrap()
}

fn join_of(member: &str) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_member_id(text(member))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(30_000)
}

fn beat_of(member: &str) -> Bytes {
    body(&HeartbeatRequest::default().with_group_id(group()).with_member_id(text(member)), 4)
}

fn commit_of(member: &str, instance: Option<&str>) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
    let topic = OffsetCommitRequestTopic::default().with_name(TopicName(text("t"))).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(3)
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text))
        .with_topics(vec![topic])
}

fn commit_reply(code: i16) -> OffsetCommitResponse {
    let partition = OffsetCommitResponsePartition::default().with_error_code(code);
    let topic = OffsetCommitResponseTopic::default().with_name(TopicName(text("t"))).with_partitions(vec![partition]);
    OffsetCommitResponse::default().with_topics(vec![topic])
}

/// Members that have joined under generation 0, long enough ago for the memory to be taken for complete.
fn with_members(members: &[&str]) -> Rehome {
    let mut known = Members::new(At::ZERO);
    for member in members {
        let joined = Joined { instance: None, session: Duration::from_secs(10), complete: true };
        known.joined(Who { group: "g", member, generation: 0 }, joined, At::from_secs(100));
    }
    Rehome { started: Instant::now() - Duration::from_secs(101), members: Mutex::new(known), doors: Mutex::default() }
}

fn versions<R: Request>() -> impl Iterator<Item = i16> {
    R::VERSIONS.min..=R::VERSIONS.max
}

async fn ask(rehome: &Rehome, generation: u32, key: i16, version: i16, body: &Bytes) -> Ruling {
    rehome.request(&view(generation), &header(key, version), body).await.unwrap()
}

fn answered<M: Decodable>(rule: Ruling, version: i16) -> M {
    match rule {
        Ruling::Answer(body) => decode(&body, version).unwrap(),
        _ => panic!("sent to the cluster"),
    }
}

fn sent<M: Decodable>(rule: Ruling, version: i16) -> Option<M> {
    match rule {
        Ruling::Send { body, reply: Reply::Rewrite | Reply::AtOnce } => body.map(|b| decode(&b, version).unwrap()),
        _ => panic!("not sent to the cluster for a rewritten reply"),
    }
}

#[tokio::test]
async fn old_members_are_answered_or_edited_in_every_version() {
    for v in versions::<SyncGroupRequest>() {
        let sync = SyncGroupRequest::default().with_group_id(group()).with_member_id(text("a"));
        let answer: SyncGroupResponse =
            answered(ask(&with_members(&["a"]), 1, SYNC_GROUP, v, &body(&sync, v)).await, v);
        assert_eq!(answer.error_code, REBALANCE_IN_PROGRESS, "v{v}");
    }
    for v in versions::<HeartbeatRequest>() {
        let beat = HeartbeatRequest::default().with_group_id(group()).with_member_id(text("a"));
        let answer: HeartbeatResponse = answered(ask(&with_members(&["a"]), 1, HEARTBEAT, v, &body(&beat, v)).await, v);
        assert_eq!(answer.error_code, REBALANCE_IN_PROGRESS, "v{v}");
    }
    for v in versions::<JoinGroupRequest>() {
        let instance = (v >= 5).then_some("s");
        let mut join = join_of("a").with_group_instance_id(instance.map(text));
        if v == 0 {
            join.rebalance_timeout_ms = -1;
        }
        if v <= JOINS_WITHOUT_ID || instance.is_some() {
            let rule = ask(&with_members(&["a"]), 1, JOIN_GROUP, v, &body(&join, v)).await;
            assert_eq!(sent(rule, v), Some(join.clone().with_member_id(text(""))), "v{v}");
        }
        if v > JOINS_WITHOUT_ID {
            let dynamic = join.with_group_instance_id(None);
            let rule = ask(&with_members(&["a"]), 1, JOIN_GROUP, v, &body(&dynamic, v)).await;
            let Ruling::SendAs { version: 3, frame } = rule else { panic!("v{v}: it would have to ask for an id") };
            let head = RequestHeader::parse(&frame, crate::wire::schema::is_flexible).unwrap();
            assert_eq!((head.api_key, head.api_version, head.correlation_id), (JOIN_GROUP, 3, 7));
            let old: JoinGroupRequest = decode(&frame.slice(head.body_offset..), 3).unwrap();
            assert_eq!(old, dynamic.clone().with_member_id(text("")));
            let reply = JoinGroupResponse::default().with_member_id(text("a1")).with_generation_id(1);
            let reply = reply.with_protocol_name(Some(text("range")));
            let told = bodies::join_reply(&body(&dynamic, v), &body(&reply, 3), 3, v).unwrap();
            let kind = (v >= 7).then(|| text(""));
            assert_eq!(decode::<JoinGroupResponse>(&told, v).unwrap(), reply.with_protocol_type(kind), "v{v}");
        }
    }
    for v in versions::<LeaveGroupRequest>() {
        let mut leave = LeaveGroupRequest::default().with_group_id(group());
        match v {
            0..3 => leave.member_id = text("a"),
            _ => leave.members = vec![MemberIdentity::default().with_member_id(text("a"))],
        }
        let answer: LeaveGroupResponse =
            answered(ask(&with_members(&["a"]), 1, LEAVE_GROUP, v, &body(&leave, v)).await, v);
        assert_eq!((answer.error_code, answer.members.len()), (NONE, usize::from(v >= 3)), "v{v}");
    }
    for v in versions::<OffsetCommitRequest>() {
        let commit = commit_of("a", (v >= 7).then_some("s"));
        let rule = ask(&with_members(&["a"]), 1, OFFSET_COMMIT, v, &body(&commit, v)).await;
        let outside = commit_of("", None).with_generation_id_or_member_epoch(NO_GENERATION);
        assert_eq!(sent(rule, v), Some(outside), "v{v}");
    }
}

#[tokio::test]
async fn current_members_and_strangers_are_the_clusters() {
    for (generation, member) in [(0, "a"), (1, "stranger"), (0, "")] {
        let rehome = with_members(&["a"]);
        let join = body(&join_of(member), 9);
        assert_eq!(sent::<JoinGroupRequest>(ask(&rehome, generation, JOIN_GROUP, 9, &join).await, 9), None);
        assert_eq!(sent::<HeartbeatRequest>(ask(&rehome, generation, HEARTBEAT, 4, &beat_of(member)).await, 4), None);
        let commit = body(&commit_of(member, None), 8);
        assert_eq!(sent::<OffsetCommitRequest>(ask(&rehome, generation, OFFSET_COMMIT, 8, &commit).await, 8), None);
    }
}

#[tokio::test]
async fn a_join_that_is_only_given_an_id_is_answered_before_a_cutover() {
    let rehome = with_members(&["a"]);
    for (member, at_once) in [("", true), ("a", false)] {
        let rule = ask(&rehome, 0, JOIN_GROUP, 9, &body(&join_of(member), 9)).await;
        assert_eq!(matches!(rule, Ruling::Send { reply: Reply::AtOnce, .. }), at_once, "member id {member:?}");
    }
}

#[tokio::test]
async fn heartbeats_and_joins_wait_for_all_old_members() {
    let rehome = with_members(&["a", "b"]);
    let (beat_a, beat_b) = (beat_of("a"), beat_of("b"));
    let code = |rule| answered::<HeartbeatResponse>(rule, 4).error_code;
    let first = ask(&rehome, 1, HEARTBEAT, 4, &beat_a);
    tokio::pin!(first);
    assert!(futures_util::poll!(&mut first).is_pending());
    let second = ask(&rehome, 1, HEARTBEAT, 4, &beat_b).await;
    assert_eq!((code(second), code(first.await)), (REBALANCE_IN_PROGRESS, REBALANCE_IN_PROGRESS));

    let (join_a, join_b, fresh) = (body(&join_of("a"), 3), body(&join_of("b"), 3), body(&join_of(""), 3));
    let (first, new) = (ask(&rehome, 1, JOIN_GROUP, 3, &join_a), ask(&rehome, 1, JOIN_GROUP, 3, &fresh));
    tokio::pin!(first, new);
    assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut new).is_pending());
    assert_eq!(rehome.doors.lock().len(), 1);
    assert!(sent::<JoinGroupRequest>(ask(&rehome, 1, JOIN_GROUP, 3, &join_b).await, 3).is_some());
    assert!(sent::<JoinGroupRequest>(first.await, 3).is_some());
    assert!(sent::<JoinGroupRequest>(new.await, 3).is_none(), "its own body");
    assert!(rehome.doors.lock().is_empty(), "nobody waits, nothing is kept");
}

#[tokio::test]
async fn a_held_heartbeat_that_is_given_up_does_not_count() {
    let rehome = with_members(&["a", "b"]);
    let (beat_a, beat_b) = (beat_of("a"), beat_of("b"));
    {
        let given_up = ask(&rehome, 1, HEARTBEAT, 4, &beat_a);
        tokio::pin!(given_up);
        assert!(futures_util::poll!(&mut given_up).is_pending());
    }
    assert!(rehome.doors.lock().is_empty());
    let second = ask(&rehome, 1, HEARTBEAT, 4, &beat_b);
    tokio::pin!(second);
    assert!(futures_util::poll!(&mut second).is_pending(), "a is not there any more");
}

#[tokio::test]
async fn strangers_after_a_restart_come_back_re_homed() {
    let unknown = UNKNOWN_MEMBER_ID;
    let rehome = Rehome::default();
    let adjust = |generation, key, v, request: &Bytes, reply: Bytes| {
        rehome.adjust_reply(&view(generation), &header(key, v), request, reply)
    };
    let refused = body(&HeartbeatResponse::default().with_error_code(unknown), 4);
    assert_eq!(adjust(0, HEARTBEAT, 4, &beat_of("a"), refused.clone()), refused, "there was no cutover");
    let changed: HeartbeatResponse = decode(&adjust(1, HEARTBEAT, 4, &beat_of("a"), refused.clone()), 4).unwrap();
    assert_eq!(changed.error_code, NONE, "it goes on until its next heartbeat");
    let twice: HeartbeatResponse = decode(&adjust(1, HEARTBEAT, 4, &beat_of("a"), refused), 4).unwrap();
    assert_eq!(twice.error_code, NONE, "two requests of one member may be on their way at the same time");
    assert!(rehome.members.lock().is_old(Who { group: "g", member: "a", generation: 1 }));

    for v in versions::<OffsetCommitRequest>() {
        let code = |member: &str, generation: i32, code| {
            let commit = commit_of(member, None).with_generation_id_or_member_epoch(generation);
            let reply = adjust(1, OFFSET_COMMIT, v, &body(&commit, v), body(&commit_reply(code), v));
            decode::<OffsetCommitResponse>(&reply, v).unwrap().topics[0].partitions[0].error_code
        };
        let stranger = format!("b{v}");
        assert_eq!(code(&stranger, 3, NONE), NONE);
        assert_eq!(code(&stranger, 3, GROUP_ID_NOT_FOUND), COORDINATOR_LOAD_IN_PROGRESS, "to be sent again at once");
        assert_eq!(code(&stranger, 3, unknown), COORDINATOR_LOAD_IN_PROGRESS, "was on its way at the same time");
        let who = Who { group: "g", member: &stranger, generation: 1 };
        assert_eq!(rehome.members.lock().commit(who, &[], rehome.now()), super::Commit::Simple);
        assert_eq!(code(&stranger, 3, unknown), REBALANCE_IN_PROGRESS, "others were faster");
        assert_eq!(code("", NO_GENERATION, unknown), unknown, "a simple consumer's is its own affair");
    }
}

#[tokio::test]
async fn replies_teach_who_is_a_member() {
    let rehome = Rehome::default();
    let old = |member: &str| rehome.members.lock().is_old(Who { group: "g", member, generation: 1 });
    let (join, v0) = (body(&join_of(""), 9), view(0));
    for (member, code) in [("in", NONE), ("id", MEMBER_ID_REQUIRED), ("refused", 24)] {
        let reply = JoinGroupResponse::default().with_member_id(text(member)).with_error_code(code);
        rehome.reply(&v0, &header(JOIN_GROUP, 9), &join, &body(&reply, 9));
    }
    rehome.reply(&v0, &header(HEARTBEAT, 4), &beat_of("beats"), &body(&HeartbeatResponse::default(), 4));
    let leave = LeaveGroupRequest::default()
        .with_group_id(group())
        .with_members(vec![MemberIdentity::default().with_member_id(text("in"))]);
    assert!(old("in") && old("id") && old("beats") && !old("refused"));
    rehome.reply(&v0, &header(LEAVE_GROUP, 5), &body(&leave, 5), &body(&LeaveGroupResponse::default(), 5));
    assert!(!old("in"));
    let fenced = HeartbeatResponse::default().with_error_code(FENCED_INSTANCE_ID);
    rehome.reply(&v0, &header(HEARTBEAT, 4), &beat_of("beats"), &body(&fenced, 4));
    assert!(!old("beats"));
    assert_eq!(group_of_commit(&body(&commit_of("a", None), 8), 8).as_deref(), Some("g"));
}
