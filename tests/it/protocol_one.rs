//! Transaction protocol 1 over a switchover, request by request: Java ends a transaction of which no addition was acknowledged
//! without an EndTxn, and applications take some of its exceptions for the end of the producer. What a client is told depends
//! on the library that it names.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, ApiVersionsRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ProduceRequest,
};
use kafka_standby::records::Stamp;

use crate::rig::{PATIENCE, Rig};
use crate::support::proxy::Proxy;
use crate::support::wait::wait_for;
use crate::wire::raw::{Raw, stamped_batch, text, topic_name, transactional_id, with_attributes};

const TOPIC: &str = "protocol-1";
const NONE: i16 = 0;
const UNKNOWN_PRODUCER_ID: i16 = 59;
const TRANSACTION_ABORTABLE: i16 = 120;
/// Of a batch: it is part of a transaction.
const TRANSACTIONAL: i16 = 0x10;

struct Producer {
    raw: Raw,
    id: &'static str,
    producer_id: i64,
    epoch: i16,
}

impl Producer {
    fn new(proxy: &Proxy, library: &'static str, id: &'static str) -> Self {
        let mut raw = Raw::connect(&proxy.bootstrap());
        let hello = ApiVersionsRequest::default().with_client_software_name(text(library));
        assert_eq!(raw.ask(3, &hello.with_client_software_version(text("4.3.1"))).error_code, NONE);
        // The first one has the coordinator's topic made.
        let find = FindCoordinatorRequest::default().with_key(text(id)).with_key_type(1);
        wait_for("a coordinator", PATIENCE, || match raw.ask(3, &find).error_code {
            NONE => Ok(()),
            code => Err(format!("error {code}")),
        });
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(id)))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let given = wait_for("a producer id", PATIENCE, || {
            let given = raw.ask(4, &init);
            if given.error_code == NONE { Ok(given) } else { Err(format!("error {}", given.error_code)) }
        });
        Self { raw, id, producer_id: given.producer_id.0, epoch: given.producer_epoch }
    }

    /// Adds the partition to the transaction; gives the error code.
    fn add(&mut self) -> i16 {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id(self.id))
            .with_v3_and_below_producer_id(self.producer_id.into())
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let reply = self.raw.ask(3, &request);
        reply.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    /// Until a coordinator that is busy or new has taken it.
    fn add_patiently(&mut self) {
        wait_for("the partition to be added", PATIENCE, || match self.add() {
            NONE => Ok(()),
            // COORDINATOR_NOT_AVAILABLE, CONCURRENT_TRANSACTIONS: clients ask again.
            code @ (14..=16 | 51) => Err(format!("error {code}")),
            code => panic!("{}: error {code}", self.id),
        });
    }

    fn write(&mut self, base_sequence: i32) -> i16 {
        let stamp = Stamp { producer_id: self.producer_id, producer_epoch: self.epoch, base_sequence };
        let batch = with_attributes(&stamped_batch(self.id, 1, stamp), TRANSACTIONAL);
        let partition = PartitionProduceData::default().with_records(Some(batch));
        let topic = TopicProduceData::default().with_name(topic_name(TOPIC)).with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(transactional_id(self.id)))
            .with_acks(-1)
            .with_timeout_ms(20_000)
            .with_topic_data(vec![topic]);
        self.raw.ask(11, &request).responses[0].partition_responses[0].error_code
    }

    fn end(&mut self, committed: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(self.id))
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        self.raw.ask(4, &request).error_code
    }
}

#[test]
fn open_transactions_can_be_given_up_by_each_library_in_its_own_way() {
    const JAVA: &str = "apache-kafka-java";
    let rig = Rig::start_with("sync", |east, _| east.create_topic(TOPIC, 1, &[]));
    let mut empty = Producer::new(&rig.proxy, JAVA, "java-empty");
    let mut written = Producer::new(&rig.proxy, JAVA, "java-written");
    let mut other = Producer::new(&rig.proxy, "kgo", "other");
    for producer in [&mut empty, &mut written, &mut other] {
        producer.add_patiently();
    }
    assert_eq!(written.write(0), NONE);
    rig.switch();
    // It may have seen no reply: then it sends no EndTxn, only this.
    empty.add_patiently();
    assert_eq!((empty.write(0), empty.end(true)), (NONE, NONE), "its transaction has begun anew");
    // Something would be missing: it has to abort, however often it asks.
    assert_eq!((written.add(), written.add()), (TRANSACTION_ABORTABLE, TRANSACTION_ABORTABLE));
    assert_eq!((written.end(true), written.end(false)), (TRANSACTION_ABORTABLE, NONE));
    written.add_patiently();
    assert_eq!((written.write(1), written.end(true)), (NONE, NONE), "the same producer goes on");
    assert_eq!((other.add(), other.end(true)), (UNKNOWN_PRODUCER_ID, UNKNOWN_PRODUCER_ID));
    assert_eq!(other.end(false), NONE);
    rig.assert_equal();
    let found = crate::rig::values_once(&rig.proxy.bootstrap(), TOPIC);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["java-empty-0", "java-written-0"]);
}
