package subscriberservice

import (
	"runtime/debug"

	"github.com/runcast/runcast/internal/settings"
)

// gcPercent is how much garbage there may be beside what is in use. A viewer
// that idles keeps little, and its handshake has left as much again behind;
// deliveries allocate per topic, so that collecting more often costs next to
// nothing. The benchmark's memory, cpu and overload rows watch over it.
const gcPercent = 50

// tuneGC applies gcPercent, unless GOGC says what is wanted.
func tuneGC(env settings.Env) {
	if env["GOGC"] == "" {
		debug.SetGCPercent(gcPercent)
	}
}
