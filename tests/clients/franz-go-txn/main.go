// franz-go: a producer in transactions, a processor that reads, writes and commits its offsets in one transaction, a
// reader of the output.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"numbered"
)

const (
	keys           = 24
	perTransaction = 4
	// Every fifth transaction is aborted; its records have keys that must never be seen.
	abortEvery = 5
	aborted    = 1000
)

var (
	task          = numbered.New()
	output        = task.Topic + "-out"
	ctx, shutdown = context.WithCancel(context.Background())
)

func main() {
	task.Hello(numbered.Version("github.com/twmb/franz-go"), true)
	task.Run(produce, shutdown, map[string]func() error{"group": process, "assigned": readOutput})
}

func options(role string, more ...kgo.Opt) []kgo.Opt {
	return append(more, kgo.SeedBrokers(task.Bootstrap), kgo.ClientID(role),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
}

func produce() error {
	producer, err := kgo.NewClient(
		options("producer", kgo.DefaultProduceTopic(task.Topic), kgo.TransactionalID(task.Group+"-producer"))...)
	if err != nil {
		return err
	}
	defer producer.Close()
	start := time.Now()
	for n := 0; task.Producing.Load(); n++ {
		time.Sleep(time.Until(start.Add(time.Duration(n*perTransaction) * time.Second / time.Duration(task.Rate))))
		if n%abortEvery == 0 {
			if _, err := transaction(producer, n, kgo.TryAbort); err != nil {
				return err
			}
		}
		// The same records again until they are committed.
		for done := false; !done; {
			if done, err = transaction(producer, n, kgo.TryCommit); err != nil {
				return err
			}
		}
	}
	return nil
}

// transaction tells whether it was committed as wanted; an error is one that the producer cannot get over.
func transaction(producer *kgo.Client, number int, end kgo.TransactionEndTry) (bool, error) {
	if err := producer.BeginTransaction(); err != nil {
		return false, err
	}
	shift := 0
	if end == kgo.TryAbort {
		shift = aborted
	}
	var records []*kgo.Record
	for n := number * perTransaction; n < (number+1)*perTransaction; n++ {
		value := fmt.Sprintf("%d-%d %s", n%keys+shift, n/keys, strings.Repeat("x", 80))
		// The same partition either way.
		records = append(records, &kgo.Record{Key: []byte(fmt.Sprintf("key-%d", n%keys)), Value: []byte(value)})
	}
	sent := producer.ProduceSync(context.Background(), records...)
	if err := sent.FirstErr(); err != nil {
		task.Error("producer", false, err)
		return false, giveUp(producer)
	}
	if err := producer.EndTransaction(context.Background(), end); err != nil {
		task.Error("producer", false, err)
		return false, giveUp(producer)
	}
	if end == kgo.TryAbort {
		return false, nil
	}
	for _, result := range sent {
		task.Ack(result.Record.Partition, result.Record.Offset, result.Record.Value)
	}
	return true, nil
}

// giveUp aborts, as its documentation says: first what is buffered, then the transaction.
func giveUp(producer *kgo.Client) error {
	if err := producer.AbortBufferedRecords(context.Background()); err != nil {
		return err
	}
	return producer.EndTransaction(context.Background(), kgo.TryAbort)
}

func process() error {
	session, err := kgo.NewGroupTransactSession(options("processor",
		kgo.TransactionalID(task.Group+"-processor"), kgo.ConsumerGroup(task.Group), kgo.ConsumeTopics(task.Topic),
		kgo.RequireStableFetchOffsets())...)
	if err != nil {
		return err
	}
	defer session.Close()
	for task.Reading.Load() {
		wait, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		fetches := session.PollFetches(wait)
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) && !errors.Is(e.Err, context.Canceled) {
				task.Error("group", false, e.Err)
			}
		}
		cancel()
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			return err
		}
		failed := kgo.AbortingFirstErrPromise(session.Client())
		fetches.EachRecord(func(r *kgo.Record) {
			copied := &kgo.Record{Topic: output, Key: r.Key, Value: r.Value}
			session.Produce(context.Background(), copied, failed.Promise())
		})
		// The session goes back to what is committed if the transaction is not.
		committed, err := session.End(context.Background(), failed.Err() == nil)
		if failed.Err() != nil {
			task.Error("group", false, failed.Err())
		}
		if err != nil {
			// It says to try an abort; what does not let itself be aborted is the end.
			task.Error("group", false, err)
			if _, err = session.End(context.Background(), kgo.TryAbort); err != nil {
				return err
			}
		}
		if committed {
			fetches.EachRecord(func(r *kgo.Record) { task.Read("group", r.Partition, r.Offset, r.Value) })
		}
	}
	return nil
}

func readOutput() error {
	positions := map[int32]kgo.EpochOffset{}
	start := map[int32]kgo.Offset{}
	for partition := range int32(task.Partitions) {
		positions[partition] = kgo.EpochOffset{Epoch: -1}
		start[partition] = kgo.NewOffset().At(0)
	}
	consumer, err := kgo.NewClient(
		options("assigned", kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{output: start}))...)
	if err != nil {
		return err
	}
	defer consumer.Close()
	for task.Reading.Load() {
		select {
		case <-task.Seek:
			consumer.SetOffsets(map[string]map[int32]kgo.EpochOffset{output: positions})
		default:
		}
		wait, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		consumer.PollFetches(wait).EachRecord(func(r *kgo.Record) {
			task.Read("assigned", r.Partition, r.Offset, r.Value)
			positions[r.Partition] = kgo.EpochOffset{Epoch: -1, Offset: r.Offset + 1}
		})
		cancel()
	}
	return nil
}
