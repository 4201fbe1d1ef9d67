// @platformatic/kafka: arrays of messages, a stream of messages per reader. A stream ends with the first error that is
// not retried: the application opens another. It knows no reader outside of a group either, but one with positions of its
// own (mode manual): the assigned reader is the only member of a group of its own.
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer, Producer } from '@platformatic/kafka'
import { COMMIT_EVERY_MS, error, hello, obey, produce, read, task } from '../numbered.mjs'

const { version } = JSON.parse(readFileSync(new URL('node_modules/@platformatic/kafka/package.json', import.meta.url)))
const bootstrapBrokers = [task.bootstrap]
/** Streams in a row that give nothing but an error, before the application gives up. */
const ATTEMPTS = 10

async function startProducer () {
  const producer = new Producer({ clientId: 'producer', bootstrapBrokers, idempotent: true, acks: -1 })
  await produce(async records => {
    const messages = records.map(({ key, value, partition }) => (
      { topic: task.topic, key: Buffer.from(key), value: Buffer.from(value), partition }))
    const { offsets } = await producer.send({ messages })
    return new Map(offsets.map(({ partition, offset }) => [partition, offset]))
  })
  await producer.close()
}

// Opens streams until the program is to end; behind an error with a new consumer, since one whose attempt to join its
// group again has failed tries no more. `reopen()` ends the current stream.
function reader (role, groupId, options, each) {
  const self = { consumer: null, stream: null, run, reopen: () => self.stream?.close() }

  function connect () {
    const consumer = new Consumer({ clientId: role, groupId, bootstrapBrokers })
    // Without this an error ends the whole process, as Node.js has it.
    consumer.on('error', e => self.stream ? self.stream.destroy(e) : error(role, false, e))
    return consumer
  }

  async function run () {
    for (let failed = 0; task.reading; failed++) {
      try {
        self.consumer ??= connect()
        self.stream = await self.consumer.consume({ topics: [task.topic], autocommit: false, ...options() })
        for await (const message of self.stream) {
          failed = 0
          read(role, message.partition, message.offset, message.value)
          await each(message)
        }
      } catch (e) {
        error(role, failed >= ATTEMPTS, e)
        if (failed >= ATTEMPTS) return
        self.stream = null
        await self.consumer?.close(true).catch(() => {})
        self.consumer = null
        await sleep(100)
      }
    }
  }

  return self
}

const processed = new Map()
let committed = Date.now()

async function commit () {
  const offsets = [...processed].map(([partition, offset]) => ({ topic: task.topic, partition, offset, leaderEpoch: -1 }))
  if (offsets.length === 0) return
  try {
    await group.consumer?.commit({ offsets })
    processed.clear()
  } catch (e) {
    error('group', false, e)
  }
}

const group = reader('group', task.group, () => ({ mode: 'committed', fallbackMode: 'earliest' }), async message => {
  processed.set(message.partition, message.offset + 1n)
  if (Date.now() - committed >= COMMIT_EVERY_MS) {
    committed = Date.now()
    await commit()
  }
})

const positions = new Map()
for (let partition = 0; partition < task.partitions; partition++) positions.set(partition, 0n)
const own = () => (
  { mode: 'manual', offsets: [...positions].map(([partition, offset]) => ({ topic: task.topic, partition, offset })) })
const assigned = reader('assigned', `${task.group}-assigned`, own, async message => {
  positions.set(message.partition, message.offset + 1n)
})

hello(version, true)
const producer = startProducer().catch(e => error('producer', true, e))
group.run()
assigned.run()
await obey(producer, assigned.reopen, async () => {
  await commit()
  await Promise.all([group, assigned].map(reader => reader.consumer?.close(true)))
})
