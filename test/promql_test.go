package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// metric is what a Prometheus has of one name.
type metric struct {
	counts bool // it only rises
	// values are those that each label has.
	values map[string]map[string]bool
}

// exposed are metrics by the names that a query has for them.
type exposed map[string]*metric

// expose adds what a program shows at /metrics.
func (x exposed) expose(t *testing.T, text string) {
	t.Helper()
	reader := expfmt.NewTextParser(model.UTF8Validation)
	families, err := reader.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, family := range families {
		counter := family.GetType() == dto.MetricType_COUNTER
		for _, m := range family.GetMetric() {
			if family.GetType() != dto.MetricType_HISTOGRAM {
				x.series(name, counter, m.GetLabel())
				continue
			}
			x.series(name+"_count", true, m.GetLabel())
			x.series(name+"_sum", true, m.GetLabel())
			le := "le"
			for _, b := range m.GetHistogram().GetBucket() {
				bound := fmt.Sprint(b.GetUpperBound())
				x.series(name+"_bucket", true, append(slices.Clone(m.GetLabel()), &dto.LabelPair{Name: &le, Value: &bound}))
			}
		}
	}
}

func (x exposed) series(name string, counts bool, pairs []*dto.LabelPair) {
	if x[name] == nil {
		x[name] = &metric{counts: counts, values: make(map[string]map[string]bool)}
	}
	for _, p := range pairs {
		if x[name].values[p.GetName()] == nil {
			x[name].values[p.GetName()] = make(map[string]bool)
		}
		x[name].values[p.GetName()][p.GetValue()] = true
	}
}

// inFaults are labels of which values come with faults only.
var inFaults = []string{"code"}

// grafana has the place of what Grafana puts into a query.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$strategy", ".*")

// query reads a query as Prometheus does. It returns the labels of its result
// in order, and what is wrong: what the parser refuses, and what Prometheus
// would answer by nothing or by nonsense.
func (x exposed) query(text string) (result, wrong []string) {
	expr, err := parser.ParseExpr(grafana.Replace(text))
	if err != nil {
		return nil, []string{err.Error()}
	}
	wrongf := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	rated := make(map[*parser.VectorSelector]bool)
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.MatrixSelector:
			rated[n.VectorSelector.(*parser.VectorSelector)] = true
		case *parser.VectorSelector:
			m := x[n.Name]
			if m == nil {
				wrongf("there is no metric %q", n.Name)
				return nil
			}
			if m.counts != rated[n] {
				wrongf("%s: a counter has a rate, and a gauge has none", n.Name)
			}
			for _, match := range n.LabelMatchers {
				if match.Name != labels.MetricName {
					m.match(n.Name, match, wrongf)
				}
			}
		case *parser.Call:
			if n.Func.Name == "histogram_quantile" && !slices.Contains(x.labels(n.Args[1], wrongf), "le") {
				wrongf("%s: the buckets are not told apart by le", n)
			}
		}
		return nil
	})
	if len(wrong) == 0 {
		result = x.labels(expr, wrongf)
	}
	slices.Sort(result)
	return result, wrong
}

// match checks one matcher: each value that it spells out is one that there is.
func (m *metric) match(name string, match *labels.Matcher, wrongf func(string, ...any)) {
	have := m.values[match.Name]
	if have == nil {
		wrongf("%s has no label %q", name, match.Name)
		return
	}
	if slices.Contains(inFaults, match.Name) {
		return
	}
	var spelt []string
	switch match.Type {
	case labels.MatchEqual, labels.MatchNotEqual:
		spelt = []string{match.Value}
	default:
		spelt = strings.Split(match.Value, "|")
	}
	for _, value := range spelt {
		if value != ".*" && !have[value] {
			wrongf("%s has no %s=%q", name, match.Name, value)
		}
	}
}

// labels returns those of a vector, nil for what is none. It says what is wrong
// with groupings.
func (x exposed) labels(expr parser.Expr, wrongf func(string, ...any)) (list []string) {
	switch e := expr.(type) {
	case *parser.VectorSelector:
		if m := x[e.Name]; m != nil {
			for label := range m.values {
				list = append(list, label)
			}
		}
	case *parser.MatrixSelector:
		return x.labels(e.VectorSelector, wrongf)
	case *parser.ParenExpr:
		return x.labels(e.Expr, wrongf)
	case *parser.AggregateExpr:
		below := x.labels(e.Expr, wrongf)
		for _, label := range e.Grouping {
			if !slices.Contains(below, label) {
				wrongf("%s: there is no label %q below", e, label)
			}
		}
		if e.Without {
			return slices.DeleteFunc(below, func(l string) bool { return slices.Contains(e.Grouping, l) })
		}
		return slices.Clone(e.Grouping)
	case *parser.Call:
		for _, arg := range e.Args {
			if t := arg.Type(); t == parser.ValueTypeVector || t == parser.ValueTypeMatrix {
				list = x.labels(arg, wrongf)
			}
		}
		if e.Func.Name == "histogram_quantile" {
			list = slices.DeleteFunc(list, func(l string) bool { return l == "le" })
		}
	case *parser.BinaryExpr:
		left, right := x.labels(e.LHS, wrongf), x.labels(e.RHS, wrongf)
		slices.Sort(left)
		slices.Sort(right)
		if left == nil {
			return right
		}
		if right != nil && !slices.Equal(left, right) {
			wrongf("%s: one side has the labels %q, the other %q", e, left, right)
		}
		return left
	}
	return list
}

// What is wrong is found.
func TestQuery(t *testing.T) {
	x := make(exposed)
	x.expose(t, `# TYPE calls_total counter
calls_total{strategy="poll",code="OK"} 1
calls_total{strategy="redis",code="OK"} 1
# TYPE closes_total counter
closes_total{strategy="poll",reason="slow"} 1
# TYPE viewers gauge
viewers{strategy="poll"} 1
# TYPE plain_total counter
plain_total 1
# TYPE late_seconds histogram
late_seconds_bucket{strategy="poll",le="1"} 1
late_seconds_bucket{strategy="poll",le="+Inf"} 1
late_seconds_sum{strategy="poll"} 1
late_seconds_count{strategy="poll"} 1
`)
	for _, tt := range []struct{ query, result, wrong string }{
		{`sum by (strategy) (rate(calls_total{strategy=~"$strategy"}[$__rate_interval]))`, "[strategy]", ""},
		{`sum by (strategy, code) (rate(calls_total{code="ResourceExhausted"}[5m]))`, "[code strategy]", ""},
		{`sum by (strategy) (rate(closes_total{strategy=~"$strategy|poll",reason!="slow"}[5m]))`, "[strategy]", ""},
		{`sum without (reason) (rate(closes_total[5m]))`, "[strategy]", ""},
		{`60 * sum by (strategy) (rate(calls_total[5m])) / clamp_min(sum by (strategy) (viewers), 1)`, "[strategy]", ""},
		{`histogram_quantile(0.99, sum by (strategy, le) (rate(late_seconds_bucket[5m])))`, "[strategy]", ""},
		{`rate(late_seconds_sum[5m]) / rate(late_seconds_count[5m])`, "[strategy]", ""},
		{`sum by (strategy) (rate(calls_total[5m])`, "[]", "unclosed"},
		{`sum by (strategy) (rate(calls_total))`, "[]", "expected type range vector"},
		{`rate(calls_total[$interval])`, "[]", "unexpected character"},
		{`rat(calls_total[5m])`, "[]", "unknown function"},
		{`rate(calls[5m])`, "[]", `no metric "calls"`},
		{`rate(late_seconds[5m])`, "[]", `no metric "late_seconds"`},
		{`rate(calls_total{strategie="poll"}[5m])`, "[]", `no label "strategie"`},
		{`rate(calls_total{strategy="pole"}[5m])`, "[]", `no strategy="pole"`},
		{`rate(closes_total{reason=~"slow|deaf"}[5m])`, "[]", `no reason="deaf"`},
		{`calls_total`, "[]", "a counter has a rate"},
		{`rate(viewers[5m])`, "[]", "a gauge has none"},
		{`sum by (strategy) (rate(plain_total[5m]))`, "[strategy]", `no label "strategy" below`},
		{`histogram_quantile(0.99, sum by (strategy) (rate(late_seconds_bucket[5m])))`, "[]", "by le"},
		{`rate(calls_total[5m]) / sum by (strategy) (viewers)`, "[code strategy]", "one side has"},
	} {
		result, wrong := x.query(tt.query)
		got := strings.Join(wrong, "; ")
		if fmt.Sprint(result) != tt.result || (got == "") != (tt.wrong == "") || !strings.Contains(got, tt.wrong) {
			t.Errorf("%s: the labels %v, and wrong is %q; want %s and %q", tt.query, result, got, tt.result, tt.wrong)
		}
	}
}
