// franz-go: one client object per role, promises for deliveries, polled fetches.
package main

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"numbered"
)

var (
	task          = numbered.New()
	ctx, shutdown = context.WithCancel(context.Background())
)

func main() {
	task.Hello(numbered.Version("github.com/twmb/franz-go"), true)
	task.Run(produce, shutdown, map[string]func() error{"group": readInGroup, "assigned": readAssigned})
}

func client(role string, more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(more, kgo.SeedBrokers(task.Bootstrap), kgo.ClientID(role))...)
}

func produce() error {
	// Idempotent with acks=all is its default.
	producer, err := client("producer", kgo.DefaultProduceTopic(task.Topic))
	if err != nil {
		return err
	}
	defer producer.Close()
	task.Records(func(key, value []byte) {
		producer.Produce(context.Background(), &kgo.Record{Key: key, Value: value}, func(r *kgo.Record, err error) {
			if err != nil {
				task.Error("producer", true, err)
			} else {
				task.Ack(r.Partition, r.Offset, r.Value)
			}
		})
	})
	return producer.Flush(context.Background())
}

// poll gives what is there; errors of single partitions are told and no reason to end.
func poll(role string, consumer *kgo.Client, each func(*kgo.Record)) {
	wait, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	fetches := consumer.PollFetches(wait)
	for _, e := range fetches.Errors() {
		if wait.Err() == nil {
			task.Error(role, false, e.Err)
		}
	}
	fetches.EachRecord(func(r *kgo.Record) {
		task.Read(role, r.Partition, r.Offset, r.Value)
		each(r)
	})
}

func readInGroup() error {
	var lock sync.Mutex
	processed := map[int32]kgo.EpochOffset{}
	// Also called when partitions are taken away: in a goroutine of the client.
	commit := func(consumer *kgo.Client) {
		lock.Lock()
		offsets := map[string]map[int32]kgo.EpochOffset{task.Topic: processed}
		count := len(processed)
		processed = map[int32]kgo.EpochOffset{}
		lock.Unlock()
		if count == 0 {
			return
		}
		if err := commitSync(consumer, offsets); err != nil {
			task.Error("group", false, err)
		}
	}
	consumer, err := client("group",
		kgo.ConsumerGroup(task.Group), kgo.ConsumeTopics(task.Topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsRevoked(func(_ context.Context, c *kgo.Client, _ map[string][]int32) { commit(c) }))
	if err != nil {
		return err
	}
	committed := time.Now()
	for task.Reading.Load() {
		poll("group", consumer, func(r *kgo.Record) {
			lock.Lock()
			processed[r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
			lock.Unlock()
		})
		if time.Since(committed) >= numbered.CommitEvery {
			commit(consumer)
			committed = time.Now()
		}
	}
	commit(consumer)
	consumer.Close()
	return nil
}

func readAssigned() error {
	positions := map[int32]kgo.EpochOffset{}
	start := map[int32]kgo.Offset{}
	for partition := range int32(task.Partitions) {
		positions[partition] = kgo.EpochOffset{Epoch: -1}
		start[partition] = kgo.NewOffset().At(0)
	}
	consumer, err := client("assigned", kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{task.Topic: start}))
	if err != nil {
		return err
	}
	defer consumer.Close()
	for task.Reading.Load() {
		select {
		case <-task.Seek:
			consumer.SetOffsets(map[string]map[int32]kgo.EpochOffset{task.Topic: positions})
		default:
		}
		poll("assigned", consumer, func(r *kgo.Record) {
			positions[r.Partition] = kgo.EpochOffset{Epoch: -1, Offset: r.Offset + 1}
		})
	}
	return nil
}
