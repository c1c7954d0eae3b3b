//go:build !unix

package main

import "os"

// terminalWidth returns 0: without a known way to ask, the output is taken
// for a program's, which gets JSON lines.
func terminalWidth(*os.File) int { return 0 }
