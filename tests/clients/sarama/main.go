// sarama: channels for deliveries, a handler for the group, one partition consumer per assigned partition.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"numbered"
)

var (
	task          = numbered.New()
	ctx, shutdown = context.WithCancel(context.Background())
)

func main() {
	task.Hello(numbered.Version("github.com/IBM/sarama"), true)
	task.Run(produce, shutdown, map[string]func() error{"group": readInGroup, "assigned": readAssigned})
}

func config(role string) *sarama.Config {
	config := sarama.NewConfig()
	config.ClientID = role
	config.Version = sarama.MaxVersion
	config.Consumer.Return.Errors = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	return config
}

func produce() error {
	config := config("producer")
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	// An idempotent producer of sarama insists on it.
	config.Net.MaxOpenRequests = 1
	config.Producer.Return.Successes = true
	producer, err := sarama.NewAsyncProducer([]string{task.Bootstrap}, config)
	if err != nil {
		return err
	}
	var reports sync.WaitGroup
	reports.Add(2)
	go func() {
		defer reports.Done()
		for message := range producer.Successes() {
			value, _ := message.Value.Encode()
			task.Ack(message.Partition, message.Offset, value)
		}
	}()
	go func() {
		defer reports.Done()
		for failed := range producer.Errors() {
			task.Error("producer", true, failed)
		}
	}()
	task.Records(func(key, value []byte) {
		producer.Input() <- &sarama.ProducerMessage{
			Topic: task.Topic, Key: sarama.ByteEncoder(key), Value: sarama.ByteEncoder(value)}
	})
	producer.AsyncClose()
	reports.Wait()
	return nil
}

// handler marks each record and commits once a second and, as an application should, when a session ends.
type handler struct{}

func (handler) Setup(sarama.ConsumerGroupSession) error { return nil }

func (handler) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	return nil
}

func (handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	commit := time.NewTicker(numbered.CommitEvery)
	defer commit.Stop()
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			task.Read("group", message.Partition, message.Offset, message.Value)
			session.MarkMessage(message, "")
		case <-commit.C:
			session.Commit()
		case <-session.Context().Done():
			return nil
		}
	}
}

func readInGroup() error {
	group, err := sarama.NewConsumerGroup([]string{task.Bootstrap}, task.Group, config("group"))
	if err != nil {
		return err
	}
	go func() {
		for err := range group.Errors() {
			task.Error("group", false, err)
		}
	}()
	for task.Reading.Load() {
		if err := group.Consume(ctx, []string{task.Topic}, handler{}); err != nil && ctx.Err() == nil {
			task.Error("group", false, fmt.Errorf("consume: %w", err))
			time.Sleep(100 * time.Millisecond)
		}
	}
	return group.Close()
}

// readAssigned keeps a partition consumer per partition; to seek is to close it and to open another at the position.
func readAssigned() error {
	consumer, err := sarama.NewConsumer([]string{task.Bootstrap}, config("assigned"))
	if err != nil {
		return err
	}
	defer consumer.Close()
	positions := make([]int64, task.Partitions)
	for task.Reading.Load() {
		if err := readOnce(consumer, positions); err != nil {
			return err
		}
	}
	return nil
}

// readOnce reads from the positions on until the runner says seek or end.
func readOnce(consumer sarama.Consumer, positions []int64) error {
	var open []sarama.PartitionConsumer
	var readers sync.WaitGroup
	closeAll := func() {
		for _, partition := range open {
			partition.AsyncClose()
		}
		readers.Wait()
	}
	for number := range positions {
		partition, err := consumer.ConsumePartition(task.Topic, int32(number), positions[number])
		if err != nil {
			closeAll()
			return err
		}
		open = append(open, partition)
		readers.Add(2)
		go func() {
			defer readers.Done()
			for message := range partition.Messages() {
				task.Read("assigned", message.Partition, message.Offset, message.Value)
				positions[message.Partition] = message.Offset + 1
			}
		}()
		go func() {
			defer readers.Done()
			for err := range partition.Errors() {
				// OffsetOutOfRange ends a partition consumer for good.
				task.Error("assigned", errors.Is(err, sarama.ErrOffsetOutOfRange), err)
			}
		}()
	}
	select {
	case <-task.Seek:
	case <-ctx.Done():
	}
	closeAll()
	return nil
}
