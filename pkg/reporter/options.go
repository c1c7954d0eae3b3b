package reporter

import (
	"log/slog"
	"time"

	"go.temporal.io/sdk/converter"
)

// An Option changes how a [Reporter] works.
type Option func(*options)

type options struct {
	logger *slog.Logger
	// interval is the least time between two writes of one activity.
	interval time.Duration
	// retryFor bounds the retries of one append.
	retryFor time.Duration
	// flushFor bounds how long an activity's end waits for its last reports.
	flushFor time.Duration
	// stopFor bounds how long the last worker's stop waits for pending events.
	stopFor time.Duration
	// confirmFor bounds one close confirmation, confirmMax their number.
	confirmFor time.Duration
	confirmMax int
	// queueMax bounds the events of workflow code that wait to be written.
	queueMax int
	// recordsMax and bytesMax bound what one activity holds unwritten.
	recordsMax, bytesMax int
	reconciler           bool
	noHandlers           bool
	noErrors             bool
	rate                 float64
	converter            converter.DataConverter
}

func defaultOptions() options {
	return options{
		logger:     slog.Default(),
		interval:   50 * time.Millisecond,
		retryFor:   30 * time.Second,
		flushFor:   time.Second,
		stopFor:    3 * time.Second,
		confirmFor: 10 * time.Second,
		confirmMax: 200,
		queueMax:   10_000,
		recordsMax: 1_000,
		bytesMax:   1 << 20,
		rate:       50,
		converter:  converter.GetDefaultDataConverter(),
	}
}

// settleFor bounds how long others wait for the last reports of an activity:
// until its retries are over, with the last call.
func (o *options) settleFor() time.Duration { return o.retryFor + callFor }

// WithLogger sets where trouble is logged; the default is [slog.Default].
// Progress itself is never logged.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithInterval sets the least time between two writes of one activity; the
// default is 50 ms. Reports in between are merged.
func WithInterval(d time.Duration) Option { return func(o *options) { o.interval = d } }

// WithRetryFor bounds how long an append is retried before its events are
// dropped and counted as lost; the default is 30 s. For all that is still to
// be written when an activity ends, the bound counts from then.
func WithRetryFor(d time.Duration) Option { return func(o *options) { o.retryFor = d } }

// WithFlushFor bounds how long the end of an activity waits until its last
// reports are written; the default is 1 s. What is then still pending goes on
// being written in the background.
func WithFlushFor(d time.Duration) Option { return func(o *options) { o.flushFor = d } }

// WithConfirm bounds the close confirmations: how long each waits for
// Temporal to say how the run ended, and how many wait at once. The defaults
// are 10 s and 200; Temporal's frontend allows 1,200 long polls per
// namespace. What the bounds leave out is the reconciler's.
func WithConfirm(wait time.Duration, most int) Option {
	return func(o *options) { o.confirmFor, o.confirmMax = wait, most }
}

// WithBuffer bounds what one activity holds unwritten: log lines and pieces
// of output, and the bytes of all reports. The defaults are 1,000 and 1 MiB.
// What goes beyond is refused and counted.
func WithBuffer(records, bytes int) Option {
	return func(o *options) { o.recordsMax, o.bytesMax = records, bytes }
}

// WithoutErrors leaves out the texts of errors: of failed activities and
// steps, and of how runs ended, the reasons of terminations too. By default
// they are written as they are, also where the client encrypts failures.
func WithoutErrors() Option { return func(o *options) { o.noErrors = true } }

// WithDataConverter sets what reads the memo in which a run's tags are; the
// default is the SDK's own. A client that encrypts payloads encrypts memos,
// too: give it that client's. It is used in workflow code, so it must not ask
// a server.
func WithDataConverter(c converter.DataConverter) Option {
	return func(o *options) { o.converter = c }
}

// WithoutHandlers leaves out the handlers of package handlers, by which
// strategies that need no store follow runs. By default every run has them.
// Runs that were followed by update or by subscription cannot go on, nor be
// replayed, without them.
func WithoutHandlers() Option { return func(o *options) { o.noHandlers = true } }

// WithReconciler registers the reconciler's workflow and activity on the
// workers that use the reporter; see [EnsureReconciler]. The rate bounds its
// calls to Temporal, per second; 0 means 50. The store must be a
// [ReconcileStore].
func WithReconciler(callsPerSecond float64) Option {
	return func(o *options) {
		o.reconciler = true
		if callsPerSecond > 0 {
			o.rate = callsPerSecond
		}
	}
}
