package subscriber

// The reading of a page of history, and what bounds it.
var ReadPage = readPage

const (
	MaxEventsBytes = maxEventsBytes
	EventsRead     = eventsRead
)
