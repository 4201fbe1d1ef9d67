"""aiokafka: everything in one event loop; the runner's orders come from a thread."""

import asyncio
import os
import sys
import threading
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import numbered


async def produce(task):
    producer = AIOKafkaProducer(
        bootstrap_servers=task.bootstrap, client_id="producer", acks="all", enable_idempotence=True)
    await producer.start()

    def delivered(id):
        def report(future):
            if error := future.exception():
                task.error("producer", True, error)
            else:
                task.ack(future.result().partition, future.result().offset, id)

        return report

    for id, key, value, due in task.records():
        if (early := due - time.monotonic()) > 0:
            await asyncio.sleep(early)
        if not task.producing:
            break
        (await producer.send(task.topic, value, key)).add_done_callback(delivered(id))
    await producer.flush()
    await producer.stop()


def reader(task, role, **more):
    return AIOKafkaConsumer(bootstrap_servers=task.bootstrap, client_id=role, enable_auto_commit=False,
                            auto_offset_reset="earliest", **more)


async def poll(task, role, consumer):
    """An application that goes on after an exception."""
    try:
        batches = await consumer.getmany(timeout_ms=100)
    except Exception as error:
        task.error(role, False, error)
        await asyncio.sleep(0.1)
        return []
    records = [record for batch in batches.values() for record in batch]
    for record in records:
        task.read(role, record.partition, record.offset, record.value)
    return records


async def read_in_group(task):
    consumer = reader(task, "group", group_id=task.group)
    processed = {}

    async def commit():
        if processed:
            try:
                await consumer.commit({TopicPartition(task.topic, p): o for p, o in processed.items()})
                processed.clear()
            except Exception as error:
                task.error("group", False, error)

    class Listener(ConsumerRebalanceListener):
        async def on_partitions_revoked(self, revoked):
            await commit()

        async def on_partitions_assigned(self, assigned):
            pass

    consumer.subscribe([task.topic], listener=Listener())
    await consumer.start()
    committed = time.monotonic()
    while task.reading:
        for record in await poll(task, "group", consumer):
            processed[record.partition] = record.offset + 1
        if time.monotonic() - committed >= numbered.COMMIT_EVERY_S:
            await commit()
            committed = time.monotonic()
    await commit()
    await consumer.stop()


async def read_assigned(task):
    consumer = reader(task, "assigned")
    positions = {partition: 0 for partition in range(task.partitions)}

    def seek():
        for partition, offset in positions.items():
            consumer.seek(TopicPartition(task.topic, partition), offset)

    consumer.assign([TopicPartition(task.topic, partition) for partition in positions])
    await consumer.start()
    seek()
    while task.reading:
        if task.seek:
            task.seek = False
            seek()
        for record in await poll(task, "assigned", consumer):
            positions[record.partition] = record.offset + 1
    await consumer.stop()


async def guarded(role, work):
    try:
        await work
    except BaseException as error:
        task.error(role, True, error)


async def main():
    loop = asyncio.get_running_loop()
    orders = asyncio.Queue()

    def listen():
        for order in task.orders():
            loop.call_soon_threadsafe(orders.put_nowait, order)

    producer = asyncio.create_task(guarded("producer", produce(task)))
    readers = [asyncio.create_task(guarded("group", read_in_group(task))),
               asyncio.create_task(guarded("assigned", read_assigned(task)))]
    threading.Thread(target=listen, daemon=True).start()
    while (order := await orders.get()) != "end":
        if order == "seek":
            task.seek = True
        elif order == "stop":
            task.producing = False
            await producer
            task.flushed()
    task.reading = False
    await asyncio.gather(*readers)


task = numbered.Task()
task.hello(aiokafka.__version__, True)
asyncio.run(main())
