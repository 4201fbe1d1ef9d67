package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commitSync commits and gives the first error, of the request or of a partition.
func commitSync(consumer *kgo.Client, offsets map[string]map[int32]kgo.EpochOffset) error {
	var first error
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	consumer.CommitOffsetsSync(context.Background(), offsets,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, reply *kmsg.OffsetCommitResponse, err error) {
			if err != nil {
				note(err)
				return
			}
			for _, topic := range reply.Topics {
				for _, partition := range topic.Partitions {
					note(kerr.ErrorForCode(partition.ErrorCode))
				}
			}
		})
	return first
}
