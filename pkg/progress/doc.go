// Package progress holds the vocabulary of Runcast: the [Event], the
// [Snapshot] that events fold into, the [Position] that names a place in a
// workflow's stream, and the errors that every other package maps from.
//
// It knows no Redis, no HTTP and no Temporal, and imports the standard
// library only. Whatever writes, carries or shows progress builds on it.
package progress
