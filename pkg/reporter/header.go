package reporter

import (
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
)

// headerKey names the header that workflow code sends along with each
// activity. Its payload is JSON in every data converter's plain form, so that
// a worker in any language can read it.
const headerKey = "runcast"

// header tells an activity whose progress it reports.
type header struct {
	// Chain is the first run's ID.
	Chain string `json:"chain"`
	Run   string `json:"run"`
	// Reset says that a reset made the run.
	Reset bool `json:"reset,omitzero"`
	// RunTime is when the run's first live workflow task began, as Temporal
	// knows it, in Unix milliseconds. It orders the runs of one workflow ID.
	RunTime int64 `json:"run_time,omitzero"`
	// TaskTime is, for a local activity, when the workflow task that runs it
	// began, in Unix milliseconds as Temporal knows it. It orders executions
	// of one local activity on workers whose clocks differ.
	TaskTime int64 `json:"task_time,omitzero"`
	// Step names the activity's own step.
	Step         string `json:"step,omitzero"`
	WorkflowType string `json:"workflow_type,omitzero"`
}

func (h header) payload() (*commonpb.Payload, error) {
	p, err := converter.GetDefaultDataConverter().ToPayload(h)
	if err != nil {
		return nil, fmt.Errorf("encode the %s header: %w", headerKey, err)
	}
	return p, nil
}

// readHeader returns false when there is no header, or none that can be read:
// reporting then goes on with what the activity itself knows.
func readHeader(fields map[string]*commonpb.Payload) (header, bool) {
	p := fields[headerKey]
	if p == nil {
		return header{}, false
	}
	var h header
	if err := converter.GetDefaultDataConverter().FromPayload(p, &h); err != nil || h.Run == "" {
		return header{}, false
	}
	return h, true
}

func (h header) runTime() time.Time {
	if h.RunTime <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(h.RunTime)
}
