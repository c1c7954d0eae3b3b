// Package test holds the tests that need what users of the other modules
// should not inherit: a browser driver and a parser of compose files. They
// run the real programs from the outside.
package test
