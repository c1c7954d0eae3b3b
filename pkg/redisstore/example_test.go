package redisstore_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// An outside program, such as a cron job, reports its progress without
// Temporal: it names itself and numbers its events.
func Example() {
	server, err := miniredis.Run() // any Redis will do
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	ctx := context.Background()
	store, err := redisstore.Open(ctx, "redis://"+server.Addr(), redisstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	percent := 40.0
	_, err = store.Append(ctx, redisstore.Append{
		WorkflowID: "nightly-backup",
		Producer:   redisstore.Producer{Name: "backup.sh"},
		Number:     1,
		Events: []progress.Event{
			{WorkflowID: "nightly-backup", Type: progress.TypeStarted, Status: progress.StatusRunning, Time: time.Now()},
			{WorkflowID: "nightly-backup", Type: progress.TypeProgress, Percent: &percent, Message: "copying", Time: time.Now()},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	snapshot, err := store.Snapshot(ctx, "nightly-backup")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(snapshot.Status, *snapshot.Percent, snapshot.Message, snapshot.Seq)
	// Output: running 40 copying 2
}

// printer prints what a subscription receives.
type printer chan string

func (p printer) Message(t progress.Topic, data []byte) {
	e, err := progress.DecodeEvent(data)
	if err != nil {
		p <- err.Error()
		return
	}
	p <- fmt.Sprint(t.Name, ": ", e.Seq, " ", e.Message)
}

func (p printer) Resync(t progress.Topic) { p <- fmt.Sprint(t.Name, ": read it anew") }

// Follow a workflow: subscribe first, then read, so that nothing falls in
// between.
func ExampleStore_Subscribe() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	ctx := context.Background()
	store, err := redisstore.Open(ctx, "redis://"+server.Addr(), redisstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	out := make(printer, 10)
	sub := store.Subscribe(out)
	defer sub.Close()
	if err := sub.Add(ctx, progress.Topic{Name: "nightly-backup"}); err != nil {
		log.Fatal(err)
	}
	_, err = store.Append(ctx, redisstore.Append{
		WorkflowID: "nightly-backup",
		Producer:   redisstore.Producer{Name: "backup.sh"},
		Number:     1,
		Events:     []progress.Event{{WorkflowID: "nightly-backup", Type: progress.TypeLog, Message: "disk 1 done", Time: time.Now()}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-out)
	// Output: nightly-backup: 1 disk 1 done
}
