package dynamic

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
)

func TestLoad(t *testing.T) {
	values, err := Values{
		"frontend.namespaceRPS=7",
		"frontend.NAMESPACERPS=8", // keys are case-insensitive, and the last one counts
		`history.timerProcessorMaxTimeShift="5ms"`,
		"frontend.namespaceBurstRatio=1.5",
	}.Load()
	if err != nil {
		t.Fatal(err)
	}
	client := dynamicconfig.StaticClient{}
	for key, value := range values {
		client[key] = value
	}
	c := dynamicconfig.NewCollection(client, log.NewNoopLogger())
	if n := dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Get(c)("any"); n != 8 {
		t.Errorf("the rate is %d, want 8", n)
	}
	if d := dynamicconfig.TimerProcessorMaxTimeShift.Get(c)(); d != 5*time.Millisecond {
		t.Errorf("the shift is %v, want 5ms", d)
	}
	if r := dynamicconfig.FrontendMaxNamespaceBurstRatioPerInstance.Get(c)("any"); r != 1.5 {
		t.Errorf("the ratio is %v, want 1.5", r)
	}
}

func TestBadValues(t *testing.T) {
	for setting, want := range map[string]string{
		"":                             "KEY=VALUE",
		"frontend.namespaceRPS":        "KEY=VALUE",
		"=1":                           "KEY=VALUE",
		"frontend.namespaceRPS=":       "not JSON",
		"frontend.namespaceRPS=many":   "not JSON",
		"frontend.namespaceRPS=1}]":    "not JSON",
		`frontend.namespaceRPS="many"`: "not int",
		"frontend.namespaceRPS=1.5":    "not int",
		"frontend.nobodyKnows=1":       "unregistered key",
		`history.timerProcessorMaxTimeShift="soon"`: "duration",
	} {
		err := Values{"frontend.namespaceBurstRatio=2", setting}.Validate()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), strings.SplitN(setting, "=", 2)[0]) {
			t.Errorf("%q: the error is %v, want one with %q", setting, err, want)
		}
	}
	if err := Values(nil).Validate(); err != nil {
		t.Errorf("nothing: %v", err)
	}
}
