package strategy

import "errors"

// ErrNoHandlers refuses a workflow that has not the handlers of package
// handlers; the error names the one that is missing.
var ErrNoHandlers = errors.New("the workflow cannot be followed this way")
