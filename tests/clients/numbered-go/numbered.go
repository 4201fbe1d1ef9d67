// Package numbered is what the Go programs share: the arguments, the lines to the runner, the orders from it.
// tests/clients/README.md has the contract.
package numbered

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	keys        = 24
	CommitEvery = time.Second
)

// Task is what the runner asks for.
type Task struct {
	Bootstrap, Topic, Group string
	Partitions, Rate        int
	Producing, Reading      atomic.Bool
	// Seek has one entry when the assigned reader is to take up its stored positions.
	Seek chan struct{}
	lock sync.Mutex
}

func New() *Task {
	task := &Task{Bootstrap: os.Args[1], Topic: os.Args[2], Group: os.Args[4], Seek: make(chan struct{}, 1)}
	task.Partitions = number(os.Args[3])
	task.Rate = number(os.Args[5])
	task.Producing.Store(true)
	task.Reading.Store(true)
	return task
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

func (t *Task) say(line map[string]any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	fmt.Println(string(text))
}

func (t *Task) Hello(version string, idempotent bool) {
	t.say(map[string]any{"event": "hello", "version": version, "idempotent": idempotent})
}

func (t *Task) Ack(partition int32, offset int64, value []byte) {
	t.say(map[string]any{"event": "ack", "partition": partition, "offset": offset, "id": id(value), "ms": now()})
}

func (t *Task) Read(by string, partition int32, offset int64, value []byte) {
	t.say(map[string]any{
		"event": "read", "by": by, "partition": partition, "offset": offset, "id": id(value), "ms": now()})
}

func (t *Task) Error(by string, fatal bool, err error) {
	t.say(map[string]any{"event": "error", "by": by, "fatal": fatal, "text": err.Error(), "ms": now()})
}

func now() int64 { return time.Now().UnixMilli() }

func id(value []byte) string {
	first, _, _ := bytes.Cut(value, []byte(" "))
	return string(first)
}

// Records calls send for each record when it is due, until the producer is to stop.
func (t *Task) Records(send func(key, value []byte)) {
	start := time.Now()
	for n := 0; t.Producing.Load(); n++ {
		time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(t.Rate))))
		value := fmt.Sprintf("%d-%d %s", n%keys, n/keys, strings.Repeat("x", 80))
		send([]byte(fmt.Sprintf("key-%d", n%keys)), []byte(value))
	}
}

// Run does the three things, each in a goroutine, and what the runner orders, until it is told to end. The readers are
// to come to an end when stop is called.
func (t *Task) Run(produce func() error, stop func(), readers map[string]func() error) {
	var producer, reading sync.WaitGroup
	start := func(group *sync.WaitGroup, role string, work func() error) {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := work(); err != nil {
				t.Error(role, true, err)
			}
		}()
	}
	start(&producer, "producer", produce)
	for role, work := range readers {
		start(&reading, role, work)
	}
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		switch orders.Text() {
		case "seek":
			t.Seek <- struct{}{}
		case "stop":
			t.Producing.Store(false)
			producer.Wait()
			t.say(map[string]any{"event": "flushed"})
		case "end":
			t.Reading.Store(false)
			stop()
			reading.Wait()
			os.Exit(0)
		}
	}
	// The runner is gone.
	os.Exit(1)
}

// Version is that of a library, as it was built in.
func Version(path string) string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == path {
			return strings.TrimPrefix(module.Version, "v")
		}
	}
	return "unknown"
}
