"""kafka-python: futures for deliveries, batches by poll()."""

import os
import sys
import time

import kafka
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import numbered


def produce(task):
    producer = KafkaProducer(
        bootstrap_servers=task.bootstrap, client_id="producer", acks="all", enable_idempotence=True)
    for id, key, value, due in task.records():
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        if not task.producing:
            break
        future = producer.send(task.topic, value, key)
        future.add_callback(lambda metadata, id=id: task.ack(metadata.partition, metadata.offset, id))
        future.add_errback(lambda error: task.error("producer", True, error))
    producer.flush()
    producer.close()


def reader(task, role, **more):
    return KafkaConsumer(bootstrap_servers=task.bootstrap, client_id=role, enable_auto_commit=False,
                         auto_offset_reset="earliest", **more)


def poll(task, role, consumer):
    """An application that goes on after an exception."""
    try:
        batches = consumer.poll(timeout_ms=100)
    except Exception as error:
        task.error(role, False, error)
        time.sleep(0.1)
        return
    for records in batches.values():
        for record in records:
            task.read(role, record.partition, record.offset, record.value)
            yield record


def read_in_group(task):
    consumer = reader(task, "group", group_id=task.group)
    processed = {}

    def commit():
        if processed:
            offsets = {TopicPartition(task.topic, p): OffsetAndMetadata(o, "", -1) for p, o in processed.items()}
            try:
                consumer.commit(offsets)
                processed.clear()
            except Exception as error:
                task.error("group", False, error)

    class Listener(ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked):
            commit()

        def on_partitions_assigned(self, assigned):
            pass

    consumer.subscribe([task.topic], listener=Listener())
    committed = time.monotonic()
    while task.reading:
        for record in poll(task, "group", consumer):
            processed[record.partition] = record.offset + 1
        if time.monotonic() - committed >= numbered.COMMIT_EVERY_S:
            commit()
            committed = time.monotonic()
    commit()
    consumer.close()


def read_assigned(task):
    consumer = reader(task, "assigned", group_id=None)
    positions = {partition: 0 for partition in range(task.partitions)}

    def seek():
        for partition, offset in positions.items():
            consumer.seek(TopicPartition(task.topic, partition), offset)

    consumer.assign([TopicPartition(task.topic, partition) for partition in positions])
    seek()
    while task.reading:
        if task.seek:
            task.seek = False
            seek()
        for record in poll(task, "assigned", consumer):
            positions[record.partition] = record.offset + 1
    consumer.close()


task = numbered.Task()
task.hello(kafka.__version__, True)
numbered.run_threads(task, produce, read_in_group, read_assigned)
