package strategies

import (
	crand "crypto/rand"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/progress"
)

const (
	// viewerParameter and viewerCookie name the viewer, who gets the same
	// strategy each time.
	viewerParameter = "viewer"
	viewerCookie    = "runcast_viewer"
	// maxViewer bounds a viewer's name, in bytes.
	maxViewer = 128
	// cookieAge is how long a browser keeps its name.
	cookieAge = 365 * 24 * time.Hour
)

// choose returns the strategy that the rules give to this viewer of this
// workflow. It answers what cannot be chosen for, and returns false.
func (s *Service) choose(w http.ResponseWriter, r *http.Request) (string, bool) {
	viewer, known, err := viewerOf(r)
	if err != nil {
		problem.Error(w, err)
		return "", false
	}
	workflowType := ""
	if len(s.o.Rules.Types()) > 0 {
		id := chi.URLParam(r, "id")
		if r.URL.RawPath != "" {
			id, err = url.PathUnescape(id)
		}
		if err == nil {
			err = progress.CheckWorkflowID(id)
		}
		if err != nil {
			problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: err.Error()})
			return "", false
		}
		if workflowType, err = s.types.of(r.Context(), id); err != nil {
			s.typeError(w, r, err)
			return "", false
		}
	}
	if !known && s.o.Rules.Split(workflowType) {
		viewer = crand.Text()
		http.SetCookie(w, &http.Cookie{
			Name: viewerCookie, Value: viewer, Path: "/", MaxAge: int(cookieAge.Seconds()),
			HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil,
		})
	}
	name := s.o.Rules.Pick(workflowType, viewer)
	s.metrics.assign(name, s.o.Rules.Types(), workflowType)
	return name, true
}

// typeError answers that a workflow's type is not known, on which the choice
// would depend.
func (s *Service) typeError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, progress.ErrNotFound) {
		problem.Error(w, err)
		return
	}
	if r.Context().Err() != nil {
		return // nobody reads an answer
	}
	later, refused := errors.AsType[*Later](err)
	if s.o.Logger != nil && (!refused || later.Err != nil) {
		s.o.Logger.Warn("a workflow's type cannot be learned", "error", err)
	}
	after := 1
	if refused {
		// Those who are refused together do not all come back together.
		after = int(math.Ceil(later.After.Seconds())) + rand.IntN(4)
	}
	w.Header().Set("Retry-After", strconv.Itoa(after))
	problem.Write(w, problem.Problem{
		Status: http.StatusServiceUnavailable,
		Detail: "The workflow's type cannot be learned now, on which the strategy depends; try again, or name a strategy.",
	})
}

// viewerOf returns the request's viewer, and whether it has named one.
func viewerOf(r *http.Request) (string, bool, error) {
	if q := r.URL.Query(); q.Has(viewerParameter) {
		viewer := q.Get(viewerParameter)
		if viewer == "" || len(viewer) > maxViewer {
			return "", false, fmt.Errorf("%w: viewer has %d bytes; it is any text of 1 to %d that stays the same for one viewer",
				progress.ErrInvalid, len(viewer), maxViewer)
		}
		return viewer, true, nil
	}
	// A cookie that is none of ours is replaced.
	if c, err := r.Cookie(viewerCookie); err == nil && c.Value != "" && len(c.Value) <= maxViewer {
		return c.Value, true, nil
	}
	return "", false, nil
}
