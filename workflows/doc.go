// Package workflows holds the sample's workflows: deterministic code, and the
// IDs under which it runs. It has no side effects of its own.
package workflows
