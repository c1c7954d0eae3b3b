package workflows

import (
	"crypto/rand"
	"strings"
)

// ProgressiveID returns the workflow ID of a [ProgressiveWorkflow] for the
// named thing, such as an order; without a name it is unique.
func ProgressiveID(name string) string {
	if name == "" {
		name = strings.ToLower(rand.Text())
	}
	return "progressive-" + name
}
