// Command api is the API service: it starts workflows over HTTP, and says
// what Temporal knows of them. See --help for its settings.
package main

import (
	"os"

	"github.com/runcast/runcast/internal/apiservice"
	"github.com/runcast/runcast/internal/settings"
)

func main() { os.Exit(settings.Main("api", apiservice.Run)) }
