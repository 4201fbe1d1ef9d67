// KafkaJS: arrays of messages, a callback per message. It knows no reader outside of a group: the assigned reader is the
// only member of a group of its own, commits nothing, and seeks to its own positions whenever it has joined.
import { readFileSync } from 'node:fs'
import kafkajs from 'kafkajs'
import { COMMIT_EVERY_MS, error, hello, obey, produce, read, task } from '../numbered.mjs'

const { Kafka, Partitioners, logLevel } = kafkajs
const { version } = JSON.parse(readFileSync(new URL('node_modules/kafkajs/package.json', import.meta.url)))

function client (clientId) {
  const logCreator = () => ({ label, log: { message, ...more } }) =>
    process.stderr.write(`${label} ${clientId} ${message} ${more.error ?? ''}\n`)
  return new Kafka({ clientId, brokers: [task.bootstrap], logLevel: logLevel.WARN, logCreator })
}

async function startProducer () {
  // Its documentation asks for one request at a time where order and idempotence matter.
  const producer = client('producer').producer({
    idempotent: true, maxInFlightRequests: 1, createPartitioner: Partitioners.DefaultPartitioner
  })
  await producer.connect()
  await produce(async records => {
    const messages = records.map(({ key, value, partition }) => ({ key, value, partition }))
    const results = await producer.send({ topic: task.topic, acks: -1, messages })
    return new Map(results.map(result => [result.partition, result.baseOffset]))
  })
  await producer.disconnect()
}

// A consumer that crashes and is not restarted by itself has come to its end.
function watch (role, consumer) {
  consumer.on(consumer.events.CRASH, ({ payload }) => error(role, !payload.restart, payload.error))
}

const group = client('group').consumer({ groupId: task.group })
const processed = new Map()

async function commit () {
  const offsets = [...processed].map(([partition, offset]) => ({ topic: task.topic, partition, offset: String(offset) }))
  if (offsets.length === 0) return
  try {
    await group.commitOffsets(offsets)
    for (const { partition, offset } of offsets) {
      if (String(processed.get(partition)) === offset) processed.delete(partition)
    }
  } catch (e) {
    error('group', false, e)
  }
}

async function startGroup () {
  watch('group', group)
  await group.connect()
  await group.subscribe({ topics: [task.topic], fromBeginning: true })
  let committed = Date.now()
  await group.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      read('group', partition, message.offset, message.value)
      processed.set(partition, Number(message.offset) + 1)
      if (Date.now() - committed >= COMMIT_EVERY_MS) {
        committed = Date.now()
        await commit()
      }
    }
  })
}

const assigned = client('assigned').consumer({ groupId: `${task.group}-assigned` })
const positions = new Map()
for (let partition = 0; partition < task.partitions; partition++) positions.set(partition, 0)

function seek () {
  for (const [partition, offset] of positions) assigned.seek({ topic: task.topic, partition, offset: String(offset) })
}

async function startAssigned () {
  watch('assigned', assigned)
  await assigned.connect()
  await assigned.subscribe({ topics: [task.topic], fromBeginning: true })
  assigned.on(assigned.events.GROUP_JOIN, seek)
  await assigned.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      // Fetched before a seek: KafkaJS delivers the rest of its batch all the same.
      if (Number(message.offset) < positions.get(partition)) return
      read('assigned', partition, message.offset, message.value)
      positions.set(partition, Number(message.offset) + 1)
    }
  })
}

async function guarded (role, work) {
  try {
    await work()
  } catch (e) {
    error(role, true, e)
  }
}

hello(version, true)
const producer = guarded('producer', startProducer)
guarded('group', startGroup)
guarded('assigned', startAssigned)
await obey(producer, seek, async () => {
  await commit()
  await Promise.all([group.disconnect(), assigned.disconnect()])
})
