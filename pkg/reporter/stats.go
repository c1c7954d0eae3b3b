package reporter

import "sync/atomic"

// Stats counts what became of reports since the reporter was made. All
// counts are of events unless they say otherwise.
type Stats struct {
	// Written were acknowledged by the store.
	Written int64
	// Merged were replaced by newer state, or joined to other output, before
	// they were written; nothing is missing for it.
	Merged int64
	// Retried counts appends that failed and were tried again.
	Retried int64
	// Lost were dropped: their retries ran out, a buffer was full, or the
	// reporter was stopped. Where an activity goes on, its next event says how
	// many; what workflow code reports carries its whole state instead.
	Lost int64
	// Refused were not taken by the store because a newer run or attempt has
	// taken over, the chain has ended, or there are too many producers.
	Refused int64
	// Unconfirmed counts runs whose end Temporal did not tell within the
	// bounds of the close confirmation; the reconciler closes them, unless a
	// newer chain of the same workflow ID has begun by then: it closes the one
	// before, and counts here, too, when that could not be done in time.
	Unconfirmed int64
	// Unflushed counts activities that ended before their last reports were
	// written; these go on being written in the background.
	Unflushed int64
}

type counters struct {
	written, merged, retried, lost, refused, unconfirmed, unflushed atomic.Int64
}

// Stats returns the counts so far.
func (r *Reporter) Stats() Stats {
	return Stats{
		Written:     r.count.written.Load(),
		Merged:      r.count.merged.Load(),
		Retried:     r.count.retried.Load(),
		Lost:        r.count.lost.Load(),
		Refused:     r.count.refused.Load(),
		Unconfirmed: r.count.unconfirmed.Load(),
		Unflushed:   r.count.unflushed.Load(),
	}
}
