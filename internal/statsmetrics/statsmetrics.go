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
	c := &collector{stats: func() reflect.Value { return reflect.ValueOf(stats()) }}
	for field := range reflect.TypeFor[T]().Fields() {
		if field.Type.Kind() != reflect.Int64 {
			continue
		}
		c.fields = append(c.fields, field.Index)
		c.descs = append(c.descs, prometheus.NewDesc(prefix+"_"+snake(field.Name)+"_total",
			"Count of "+snakeWords(field.Name)+" since the start.", nil, nil))
	}
	return c
}

type collector struct {
	stats  func() reflect.Value
	fields [][]int
	descs  []*prometheus.Desc
}

func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

func (c *collector) Collect(to chan<- prometheus.Metric) {
	now := c.stats()
	for i, d := range c.descs {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(now.FieldByIndex(c.fields[i]).Int()))
	}
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
