// Package floors holds the tests that keep imports pointing down, and other
// rules about the repository as a whole. It has no code of its own.
package floors
