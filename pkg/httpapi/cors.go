package httpapi

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/runcast/runcast/pkg/problem"
)

// cors lets pages of the allowed origins call. There are no credentials to
// send along, so none are allowed. They may read the strategy's header, if
// there is one.
//
// It is no protection against requests that need no preflight: that is
// [ownPages].
func cors(origins []string, strategyHeader string) func(http.Handler) http.Handler {
	all := slices.Contains(origins, "*")
	expose := "Location, Retry-After"
	if strategyHeader != "" {
		expose += ", " + strategyHeader
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			origin := r.Header.Get("Origin")
			if len(origins) > 0 {
				w.Header().Add("Vary", "Origin")
			}
			if origin == "" || !all && !slices.Contains(origins, origin) {
				next.ServeHTTP(w, r)
				return
			}
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Expose-Headers", expose)
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
				h.Set("Access-Control-Allow-Headers", "Content-Type, Last-Event-ID")
				h.Set("Access-Control-Max-Age", "600")
				w.WriteHeader(http.StatusNoContent)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// ownPages refuses what pages of other origins have a browser send, where it
// would change something: a page need not be allowed to read the answer to
// have an effect. Programs, which name no origin, are not meant by it.
func ownPages(origins []string) (func(http.Handler) http.Handler, error) {
	if slices.Contains(origins, "*") {
		return func(next http.Handler) http.Handler { return next }, nil
	}
	guard := http.NewCrossOriginProtection()
	for _, origin := range origins {
		if err := guard.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("httpapi: allowed origin: %w", err)
		}
	}
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem.Write(w, problem.Problem{
			Status: http.StatusForbidden,
			Detail: "Pages of this origin may not call; the operator can name it in RUNCAST_ALLOWED_ORIGINS.",
		})
	}))
	return guard.Handler, nil
}
