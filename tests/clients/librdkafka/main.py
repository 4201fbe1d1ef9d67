"""librdkafka by confluent-kafka: callbacks for deliveries, one message a poll."""

import os
import sys
import time

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import numbered

# What librdkafka tells the application for information while it goes on by itself (its INTRODUCTION.md).
INFORMATION = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE}


def config(task, role, **more):
    def told(error):
        if error.code() not in INFORMATION:
            task.error(role, error.fatal(), KafkaException(error))

    return {"bootstrap.servers": task.bootstrap, "client.id": role, "error_cb": told, **more}


def produce(task):
    producer = Producer(config(task, "producer", **{"acks": "all", "enable.idempotence": True}))

    def delivered(id):
        def report(error, message):
            if error is None:
                task.ack(message.partition(), message.offset(), id)
            else:
                task.error("producer", True, KafkaException(error))

        return report

    for id, key, value, due in task.records():
        while (early := due - time.monotonic()) > 0:
            producer.poll(early)
        if not task.producing:
            break
        while True:
            try:
                producer.produce(task.topic, value, key, on_delivery=delivered(id))
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def messages(task, role, consumer):
    message = consumer.poll(0.1)
    if message is None:
        return None
    if message.error():
        task.error(role, message.error().fatal(), KafkaException(message.error()))
        return None
    task.read(role, message.partition(), message.offset(), message.value())
    return message


def reader(task, role, group):
    more = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    return Consumer(config(task, role, **more))


def read_in_group(task):
    consumer = reader(task, "group", task.group)
    processed = {}

    def commit():
        if processed:
            offsets = [TopicPartition(task.topic, p, o) for p, o in processed.items()]
            try:
                consumer.commit(offsets=offsets, asynchronous=False)
                processed.clear()
            except KafkaException as error:
                task.error("group", False, error)

    consumer.subscribe([task.topic], on_revoke=lambda _consumer, _partitions: commit())
    committed = time.monotonic()
    while task.reading:
        if message := messages(task, "group", consumer):
            processed[message.partition()] = message.offset() + 1
        if time.monotonic() - committed >= numbered.COMMIT_EVERY_S:
            commit()
            committed = time.monotonic()
    commit()
    consumer.close()


def read_assigned(task):
    # librdkafka asks for a group's name here too; it is never used.
    consumer = reader(task, "assigned", task.group + "-never-joined")
    positions = {partition: 0 for partition in range(task.partitions)}
    at = lambda: [TopicPartition(task.topic, p, o) for p, o in positions.items()]
    consumer.assign(at())
    while task.reading:
        if task.seek:
            task.seek = False
            for position in at():
                consumer.seek(position)
        if message := messages(task, "assigned", consumer):
            positions[message.partition()] = message.offset() + 1
    consumer.close()


task = numbered.Task()
task.hello(f"{confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})", True)
numbered.run_threads(task, produce, read_in_group, read_assigned)
