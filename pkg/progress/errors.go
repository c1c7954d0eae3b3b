package progress

import "errors"

// The classes of error. Other packages wrap them with the cause and the cure;
// the edges map them: ErrInvalid and ErrBadPosition to 400, ErrNotFound to
// 404, ErrUnavailable to 503.
var (
	// ErrInvalid: the input is wrong and will stay wrong.
	ErrInvalid = errors.New("invalid input")
	// ErrBadPosition: the text is not a position.
	ErrBadPosition = errors.New("bad position")
	// ErrNotFound: there is no such workflow.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable: the store cannot be reached now; the same call may
	// succeed later.
	ErrUnavailable = errors.New("store unavailable")

	// ErrNotNext: the event does not follow the snapshot that it was applied
	// to. The snapshot is unchanged; read it anew.
	ErrNotNext = errors.New("the event is not the next one")

	// ErrSuperseded: a newer run, or a newer attempt of the same activity,
	// has taken over; the event was refused. Final.
	ErrSuperseded = errors.New("superseded by a newer run or attempt")
	// ErrClosed: the chain has ended; the event was refused. Final.
	ErrClosed = errors.New("the chain is closed")
	// ErrUnknownRun: the event does not say when its run began, and its run
	// is not the current one. The answer may change once the run is known.
	ErrUnknownRun = errors.New("unknown run")
	// ErrTooManyProducers: the workflow has as many live producers as the
	// store allows; the event was refused.
	ErrTooManyProducers = errors.New("too many live producers")
)
