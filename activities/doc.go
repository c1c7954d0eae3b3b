// Package activities holds the side effects of the sample workflows.
package activities
