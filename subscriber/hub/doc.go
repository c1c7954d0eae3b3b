// Package hub fans the events of many topics out to very many viewers.
//
// A topic is followed once however many viewers it has: one subscription at
// the [Source], one ring of recent events, each encoded at most once per
// transport. A viewer is a cursor into the ring. It has no queue and, on a
// plain TCP connection, no goroutine that writes: the topic's goroutine
// writes to every socket with one attempt that does not block.
//
// What arrives from the subscription only wakes the topic up. Whatever does
// not follow the ring's last event exactly (a hole, another epoch, a check
// that does not chain, bytes that are no event, a dropped message) leads to
// reading the stream, and what is read is compared with what is known.
//
// The hub knows no Redis, no HTTP and no Temporal.
//
// Locks are taken in this order: Conn.mu, topic.mu, Hub.mu. No lock is held
// while something may block.
package hub
