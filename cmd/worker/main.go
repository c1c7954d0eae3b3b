// Command worker runs the sample application's workflows and activities,
// reports their progress, and closes chains as Temporal says they ended. See
// --help for its settings.
package main

import (
	"os"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/workerservice"
)

func main() { os.Exit(settings.Main("worker", workerservice.Run)) }
