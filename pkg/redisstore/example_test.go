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
// Temporal: it names itself and numbers its events. Each execution is a run of
// its own, named here by its day, so that the next one goes on in the stream
// after this one has closed.
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
	begin := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	for range 2 { // two nights
		run := begin.Format(time.DateOnly)
		_, err = store.Append(ctx, redisstore.Append{
			WorkflowID: "nightly-backup",
			Fence:      redisstore.Fence{RunID: run, Chain: run, RunTime: begin},
			Producer:   redisstore.Producer{Name: "backup.sh", Started: begin},
			Number:     1,
			Events: []progress.Event{
				{WorkflowID: "nightly-backup", RunID: run, Chain: run, Type: progress.TypeStarted, Status: progress.StatusRunning, Time: begin},
				{WorkflowID: "nightly-backup", RunID: run, Chain: run, Type: progress.TypeProgress, Percent: &percent, Message: "copying", Time: begin},
				{WorkflowID: "nightly-backup", RunID: run, Chain: run, Type: progress.TypeClosed, Status: progress.StatusCompleted, Time: begin},
			},
		})
		if err != nil {
			log.Fatal(err)
		}
		begin = begin.AddDate(0, 0, 1)
	}
	snapshot, err := store.Snapshot(ctx, "nightly-backup")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(snapshot.RunID, snapshot.Status, *snapshot.Percent, snapshot.Message, snapshot.Seq)
	// Output: 2026-11-24 completed 40 copying 6
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
