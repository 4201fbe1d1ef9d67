"""What the three Python programs share: the arguments, the lines to the runner, the orders from it. tests/clients/README.md
has the contract."""

import json
import os
import sys
import threading
import time

KEYS = 24
COMMIT_EVERY_S = 1.0


class Task:
    def __init__(self):
        self.bootstrap, self.topic, partitions, self.group, rate = sys.argv[1:6]
        self.partitions = int(partitions)
        self.rate = int(rate)
        self.producing = True
        self.reading = True
        self.seek = False
        self._lock = threading.Lock()

    def say(self, **line):
        text = json.dumps(line)
        with self._lock:
            print(text, flush=True)

    def hello(self, version, idempotent):
        self.say(event="hello", version=version, idempotent=idempotent)

    def ack(self, partition, offset, id):
        self.say(event="ack", partition=partition, offset=offset, id=id, ms=now_ms())

    def read(self, by, partition, offset, value):
        id = value.split(b" ", 1)[0].decode()
        self.say(event="read", by=by, partition=partition, offset=offset, id=id, ms=now_ms())

    def error(self, by, fatal, error):
        text = f"{type(error).__name__}: {error}"
        self.say(event="error", by=by, fatal=fatal, text=text, ms=now_ms())

    def flushed(self):
        self.say(event="flushed")

    def records(self):
        """(id, key, value, due) without an end; due by the monotonic clock."""
        start = time.monotonic()
        n = 0
        while True:
            id = f"{n % KEYS}-{n // KEYS}"
            yield id, f"key-{n % KEYS}".encode(), f"{id} {'x' * 80}".encode(), start + n / self.rate
            n += 1

    def orders(self):
        """The runner's lines; when they end without `end`, the runner is gone, and so is this program."""
        for line in sys.stdin:
            order = line.strip()
            yield order
            if order == "end":
                return
        os._exit(1)


def now_ms():
    return int(time.time() * 1000)


def run_threads(task, produce, read_in_group, read_assigned):
    """For clients that block: each role in a thread of its own."""

    def guarded(role, work):
        try:
            work(task)
        except BaseException as error:
            task.error(role, True, error)

    def start(role, work):
        thread = threading.Thread(target=guarded, args=(role, work), name=role)
        thread.start()
        return thread

    producer = start("producer", produce)
    readers = [start("group", read_in_group), start("assigned", read_assigned)]
    for order in task.orders():
        if order == "seek":
            task.seek = True
        elif order == "stop":
            task.producing = False
            producer.join()
            task.flushed()
        elif order == "end":
            task.reading = False
            for reader in readers:
                reader.join()
