// Package statsmetrics shows a struct of counts as Prometheus counters, so
// that packages which count need not know Prometheus.
package statsmetrics

import (
	"reflect"
	"strings"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector returns a collector of the int64 fields of the structs that stats
// returns; field LikeThis becomes the counter prefix_like_this_total.
func Collector[T any](prefix string, stats func() T) prometheus.Collector {
	return collect[T](prefix, nil, func(each func(T, ...string)) { each(stats()) })
}

// Labeled is [Collector] for several of the same, each under a value of the
// label.
func Labeled[T any](prefix, label string, stats func() map[string]T) prometheus.Collector {
	return collect[T](prefix, []string{label}, func(each func(T, ...string)) {
		for value, one := range stats() {
			each(one, value)
		}
	})
}

func collect[T any](prefix string, labels []string, all func(each func(T, ...string))) prometheus.Collector {
	c := &collector{all: func(each func(reflect.Value, ...string)) {
		all(func(one T, values ...string) { each(reflect.ValueOf(one), values...) })
	}}
	for field := range reflect.TypeFor[T]().Fields() {
		if field.Type.Kind() != reflect.Int64 {
			continue
		}
		c.fields = append(c.fields, field.Index)
		c.descs = append(c.descs, prometheus.NewDesc(prefix+"_"+snake(field.Name)+"_total",
			"Count of "+snakeWords(field.Name)+" since the start.", labels, nil))
	}
	return c
}

type collector struct {
	// all calls each with every struct and the values of its labels.
	all    func(each func(one reflect.Value, labels ...string))
	fields [][]int
	descs  []*prometheus.Desc
}

func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

func (c *collector) Collect(to chan<- prometheus.Metric) {
	c.all(func(one reflect.Value, labels ...string) {
		for i, d := range c.descs {
			to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(one.FieldByIndex(c.fields[i]).Int()), labels...)
		}
	})
}

func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func snakeWords(name string) string { return strings.ReplaceAll(snake(name), "_", " ") }
