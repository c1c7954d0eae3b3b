// Package test holds the tests that need what users of the other modules
// should not inherit: a browser driver, parsers of compose files and of PromQL.
// They run the real programs from the outside.
package test
