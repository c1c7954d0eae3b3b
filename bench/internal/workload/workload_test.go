package workload

import (
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"
)

func TestTimes(t *testing.T) {
	in := Input{Changes: 50, Over: 10 * time.Second, Seed: 1}
	times := in.Times()
	if len(times) != 50 || !slices.IsSorted(times) || times[49] != in.Over {
		t.Errorf("%v", times)
	}
	if !slices.Equal(times, in.Times()) {
		t.Error("the same seed makes other times")
	}
	other := in
	other.Seed++
	if slices.Equal(times, other.Times()) {
		t.Error("another seed makes the same times")
	}
}

func TestChangesAreMadeInTheirTime(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterWorkflow(Workflow)
	in := Input{Begin: env.Now().Add(time.Second), Changes: 20, Over: 5 * time.Second, Seed: 3}
	env.ExecuteWorkflow(Workflow, in)
	var r Result
	if err := env.GetWorkflowResult(&r); err != nil {
		t.Fatal(err)
	}
	if len(r.Changes) != in.Changes {
		t.Fatalf("%d changes", len(r.Changes))
	}
	for i, at := range in.Times() {
		if late := r.Changes[i].Sub(in.Begin.Add(at)); late < 0 || late > time.Millisecond {
			t.Errorf("change %d is %s late", i+1, late)
		}
	}
}

func TestChangeIsToldByItsNumber(t *testing.T) {
	for _, of := range []int{1, 7, 10, 50, 999} {
		for n := 1; n <= of; n++ {
			p := percent(n, of)
			if got := Change(&p, of); got != n {
				t.Fatalf("%d of %d is taken for %d", n, of, got)
			}
		}
	}
	if got := Change(nil, 50); got != 0 {
		t.Errorf("no change is taken for %d", got)
	}
}

func TestCheck(t *testing.T) {
	good := Input{Changes: 50, Over: 10 * time.Second}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Input{{Over: time.Second}, {Changes: 5000, Over: time.Second}, {Changes: 5}, {Changes: 5, Over: time.Hour}} {
		if bad.Check() == nil {
			t.Errorf("%+v is possible", bad)
		}
	}
}
