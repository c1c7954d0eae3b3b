package subscriber

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/runcast/runcast/pkg/progress"
)

// Parameters are what a route reads from its query: those that come at most
// once, and those that may come again and again.
type parameters struct {
	once, many []string
}

var (
	noParameters     = parameters{}
	streamParameters = parameters{once: []string{"after", "mode", "run"}}
	manyParameters   = parameters{once: []string{"after", "mode"}, many: []string{"tag", "workflow"}}
	socketParameters = parameters{once: []string{"mode"}, many: []string{"tag", "workflow"}}
	eventsParameters = parameters{once: []string{"after", "limit"}}
	listParameters   = parameters{once: []string{"cursor", "limit", "status", "tag", "type"}}
)

// query returns the request's query. What the route does not read is an
// error: who misspells a parameter would get something else than asked for,
// and never learn why.
func (p parameters) query(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("%w: the query is not understood: %w", progress.ErrInvalid, err)
	}
	for name, values := range q {
		switch {
		case slices.Contains(p.many, name):
		case !slices.Contains(p.once, name):
			return nil, invalid("unknown parameter %q; this takes %s", clip(name), p)
		case len(values) > 1:
			return nil, invalid("%s is given %d times; it has one value", name, len(values))
		}
	}
	return q, nil
}

func (p parameters) String() string {
	all := slices.Sorted(slices.Values(append(slices.Clone(p.once), p.many...)))
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// forTag reports what makes no sense for a tag: it has neither positions nor
// runs, and is always the newest.
func forTag(after, run, mode string) error {
	if _, err := want(after, run, mode); err != nil {
		return err
	}
	for _, field := range []struct{ name, value string }{{"after", after}, {"run", run}, {"mode", mode}} {
		if field.value != "" {
			return invalid("%s is for workflows; a tag has neither positions nor runs, and is always the newest", field.name)
		}
	}
	return nil
}
