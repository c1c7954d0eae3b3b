package redisstore

import (
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

const (
	// checkEvery is how often the masters are asked who has which slot.
	checkEvery = time.Second
	// recheckAfter is the least time between two such questions, however
	// many topics have lost their node.
	recheckAfter = 100 * time.Millisecond
	// rerouteAfter is how long a topic waits whose slot has moved: the node
	// that is known by then is more often the right one.
	rerouteAfter = recheckAfter
)

// watch keeps the layout. A master that hangs or vanishes closes no
// connection, so that its successor would show only once pings have been
// missed; and one that was replaced may go on answering them. What it costs
// does not grow with topics or viewers.
func (sub *Subscription) watch() {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	failed := false
	for {
		if sub.idle() {
			select {
			case <-sub.recheck:
			case <-sub.ctx.Done():
				return
			}
		}
		l, err := sub.store.topology.load(sub.ctx)
		switch {
		case sub.ctx.Err() != nil:
			return
		case err == nil:
			sub.apply(l)
		case !failed:
			sub.store.opts.Logger.Warn("the cluster's slots are not known; will ask again", "error", err)
		}
		failed = err != nil
		select {
		case <-time.After(recheckAfter):
		case <-sub.ctx.Done():
			return
		}
		select {
		case <-ticker.C:
		case <-sub.recheck:
		case <-sub.ctx.Done():
			return
		}
	}
}

// idle reports whether nothing is wanted. The layout is then forgotten, as
// nobody looks whether it is still true.
func (sub *Subscription) idle() bool {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if len(sub.topics) > 0 {
		return false
	}
	sub.layout = nil
	return true
}

// apply takes a layout over: topics whose slot has another master go there,
// connections to nodes that nothing is wanted from end, and topics whose slot
// is being handed over are read, since what is published may go past them.
func (sub *Subscription) apply(l *layout) {
	sub.mu.Lock()
	before := sub.layout
	sub.layout = l
	changed := !l.sameOwners(before)
	var read []progress.Topic
	if changed || len(l.moving) > 0 {
		for channel, ts := range sub.topics {
			node := l.of(ts.slot)
			switch {
			case ts.link == nil:
			case node != "" && node != ts.link.node:
				ts.link.enqueue(op{channel: channel})
				sub.reroute(ts, 0)
			case l.moving[ts.slot] && ts.resync:
				read = append(read, ts.topic)
			}
		}
	}
	if changed {
		sub.retire()
	}
	if len(sub.pending) > 0 {
		sub.wakeRouter()
	}
	sub.mu.Unlock()
	if changed && before != nil {
		sub.store.cluster.ReloadState(sub.ctx)
	}
	for _, t := range read {
		sub.store.stats.resyncs.Add(1)
		sub.sink.Resync(t)
	}
}

// retire ends the links that no topic uses to nodes that are no masters any
// more, and forgets their failures. It is called with the mutex held.
func (sub *Subscription) retire() {
	masters := map[string]bool{}
	for _, node := range sub.layout.masters {
		masters[node] = true
	}
	for node, l := range sub.links {
		if !masters[node] {
			l.retired = true
			l.cancel()
			delete(sub.links, node)
		}
	}
	for node := range sub.trouble {
		if !masters[node] {
			delete(sub.trouble, node)
		}
	}
}
