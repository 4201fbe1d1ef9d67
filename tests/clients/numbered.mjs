// What the programs for Node.js share: the arguments, the lines to the runner, the orders from it. README.md has the
// contract.
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

const KEYS = 24
export const COMMIT_EVERY_MS = 1000

const [bootstrap, topic, partitions, group, rate] = process.argv.slice(2)
export const task = {
  bootstrap, topic, partitions: Number(partitions), group, rate: Number(rate), producing: true, reading: true
}

function say (line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

export const hello = (version, idempotent) => say({ event: 'hello', version, idempotent })
export const ack = (partition, offset, id) => say({ event: 'ack', partition, offset: Number(offset), id, ms: Date.now() })

export function read (by, partition, offset, value) {
  const id = value.toString().split(' ', 1)[0]
  say({ event: 'read', by, partition, offset: Number(offset), id, ms: Date.now() })
}

export function error (by, fatal, what) {
  // Libraries that retry give the real reason as the cause.
  const causes = []
  for (let e = what; e && causes.length < 3; e = e.cause ?? e.errors?.[0]) causes.push(`${e.name}: ${e.message}`)
  say({ event: 'error', by, fatal, text: causes.join(', caused by '), ms: Date.now() })
}

// Both libraries send arrays and wait for their end: what is due goes out together, one array at a time. The partition is
// chosen here, so that an offset for each record can be told from the one for its partition.
// send(records) resolves to a map from partition to the first offset.
export async function produce (send) {
  const start = performance.now()
  let n = 0
  while (task.producing) {
    const records = []
    for (; start + n * 1000 / task.rate <= performance.now(); n++) {
      const id = `${n % KEYS}-${Math.floor(n / KEYS)}`
      records.push({
        id, key: `key-${n % KEYS}`, value: `${id} ${'x'.repeat(80)}`, partition: n % KEYS % task.partitions
      })
    }
    if (records.length === 0) {
      await sleep(5)
      continue
    }
    try {
      const next = await send(records)
      for (const { id, partition } of records) {
        const offset = Number(next.get(partition))
        next.set(partition, offset + 1)
        ack(partition, offset, id)
      }
    } catch (e) {
      error('producer', true, e)
    }
  }
}

// `seek` and `end` are the assigned reader's and both readers'; `producer` is a promise.
export async function obey (producer, seek, end) {
  for await (const order of createInterface({ input: process.stdin })) {
    if (order === 'seek') {
      await seek()
    } else if (order === 'stop') {
      task.producing = false
      await producer
      say({ event: 'flushed' })
    } else if (order === 'end') {
      task.reading = false
      await end()
      process.exit(0)
    }
  }
  // The runner is gone.
  process.exit(1)
}
