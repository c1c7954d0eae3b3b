package httpapi

import (
	"net/http"
	"slices"
)

// cors lets pages of the allowed origins call. There are no credentials to
// send along, so none are allowed.
//
// It is no protection against requests that need no preflight; that is why a
// start must be sent as application/json.
func cors(origins []string) func(http.Handler) http.Handler {
	all := slices.Contains(origins, "*")
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
			h.Set("Access-Control-Expose-Headers", "Location, Retry-After")
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
				h.Set("Access-Control-Allow-Headers", "Content-Type")
				h.Set("Access-Control-Max-Age", "600")
				w.WriteHeader(http.StatusNoContent)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}
