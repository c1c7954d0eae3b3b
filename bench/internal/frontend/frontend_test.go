package frontend

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestCounter(t *testing.T) {
	var c Counter
	var req any
	call := func(method string, err error) {
		t.Helper()
		got := c.intercept(t.Context(), "/temporal.api.workflowservice.v1.WorkflowService/"+method, req, nil, nil,
			func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return err })
		if !errors.Is(got, err) {
			t.Errorf("%s: %v became %v", method, err, got)
		}
	}
	call("QueryWorkflow", nil)
	before := c.Read()
	call("QueryWorkflow", nil)
	call("QueryWorkflow", status.Error(codes.ResourceExhausted, "busy"))
	call("DescribeWorkflowExecution", status.Error(codes.NotFound, "none"))
	req = &workflowservice.QueryWorkflowRequest{Query: &querypb.WorkflowQuery{QueryType: "__temporal_workflow_metadata"}}
	call("QueryWorkflow", nil)
	got := c.Read().Sub(before)
	for _, tt := range []struct {
		name      string
		got, want Calls
	}{
		{"made", got.Made, Calls{"QueryWorkflow": 3, "DescribeWorkflowExecution": 1}},
		{"refused", got.Refused, Calls{"QueryWorkflow": 1}},
		{"done", got.Done, Calls{"QueryWorkflow": 2}},
		{"free", got.Free, Calls{"QueryWorkflow": 1}},
	} {
		if !maps.Equal(tt.got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	if n := got.Made.Total(); n != 4 {
		t.Errorf("%d in all", n)
	}
}

func TestParse(t *testing.T) {
	s, err := parse(strings.NewReader(`# TYPE service_requests_total counter
service_requests_total{namespace="default",operation="QueryWorkflow",otel_scope_name="temporal",service_name="frontend"} 3
service_requests_total{namespace="default",operation="QueryWorkflow",otel_scope_name="temporal",service_name="history"} 9
service_requests_total{namespace="temporal-system",operation="QueryWorkflow",otel_scope_name="temporal",service_name="frontend"} 9
service_requests_total{namespace="default",operation="GetWorkflowExecutionHistory",service_name="frontend"} 1
service_requests_total{namespace="default",operation="PollWorkflowExecutionHistory",service_name="frontend"} 1
service_requests_other{namespace="default",operation="QueryWorkflow",service_name="frontend"} 9
action_total{action_type="grpc_QueryWorkflow",namespace="default",operation="QueryWorkflow",service_name="frontend"} 2
`))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Calls{"QueryWorkflow": 3, "GetWorkflowExecutionHistory": 2}); !maps.Equal(s.Calls, want) {
		t.Errorf("calls %v, want %v", s.Calls, want)
	}
	if want := (Calls{"grpc_QueryWorkflow": 2}); !maps.Equal(s.Actions, want) {
		t.Errorf("actions %v, want %v", s.Actions, want)
	}
	for _, text := range []string{"", `service_requests_total{namespace="default",operation="X",service_name="frontend"} many`} {
		if _, err := parse(strings.NewReader(text)); err == nil {
			t.Errorf("%q tells something", text)
		}
	}
}
