// Command subscriber streams the progress of workflows to many viewers. It
// reads Redis and never touches Temporal. See --help for its settings.
package main

import (
	"os"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/subscriberservice"
)

func main() { os.Exit(settings.Main("subscriber", subscriberservice.Run)) }
