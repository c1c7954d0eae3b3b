package frontend

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/runcast/runcast/bench/internal/machine"
)

// Namespace is the only one whose calls count.
const Namespace = "default"

// Server is what Temporal's server says of itself.
type Server struct {
	// Calls came to the frontend, by method.
	Calls Calls `json:"calls"`
	// Actions are what Temporal bills, by type, as the server counts them:
	// https://docs.temporal.io/cloud/migrate/estimate-actions.
	Actions Calls `json:"actions"`
}

// Sub returns what came since an earlier reading.
func (s Server) Sub(since Server) Server {
	return Server{Calls: s.Calls.Sub(since.Calls), Actions: s.Actions.Sub(since.Actions)}
}

// ReadServer reads the server's metrics at an address.
func ReadServer(ctx context.Context, addr string) (Server, error) {
	body, err := machine.Get(ctx, "http://"+addr+"/metrics")
	if err != nil {
		return Server{}, fmt.Errorf("read the Temporal server's metrics: %w", err)
	}
	defer body.Close()
	return parse(body)
}

// The names of the server's metrics, and of what they are told by.
const (
	requestsMetric = "service_requests_total"
	actionsMetric  = "action_total"
)

func parse(r io.Reader) (Server, error) {
	s := Server{Calls: make(Calls), Actions: make(Calls)}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), "{")
		if !ok || name != requestsMetric && name != actionsMetric {
			continue
		}
		labels, value, ok := strings.Cut(rest, "} ")
		if !ok || label(labels, "service_name") != "frontend" || label(labels, "namespace") != Namespace {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return s, fmt.Errorf("read the Temporal server's metrics: %q: %w", lines.Text(), err)
		}
		if name == requestsMetric {
			s.Calls[method(label(labels, "operation"))] += int64(n)
		} else {
			s.Actions[label(labels, "action_type")] += int64(n)
		}
	}
	if err := lines.Err(); err != nil {
		return s, fmt.Errorf("read the Temporal server's metrics: %w", err)
	}
	if len(s.Calls) == 0 {
		return s, fmt.Errorf("the Temporal server tells no %s of its frontend", requestsMetric)
	}
	return s, nil
}

// method is the name of what the server calls an operation: the one method
// that has two names there.
func method(operation string) string {
	if operation == "PollWorkflowExecutionHistory" {
		return "GetWorkflowExecutionHistory"
	}
	return operation
}

// label returns a label's value; none holds a quote.
func label(labels, name string) string {
	for pair := range strings.SplitSeq(labels, ",") {
		if value, ok := strings.CutPrefix(pair, name+`="`); ok {
			return strings.TrimSuffix(value, `"`)
		}
	}
	return ""
}
