package message

import "net/url"

// callbackParam names the run in the URL of a status callback.
const callbackParam = "workflow"

// CallbackURL returns the URL at which the carrier is to report what becomes
// of a message: base, with the workflow ID of the run that sends it. An empty
// or broken base is none: "". It may be applied again, with another ID.
func CallbackURL(base, workflowID string) string {
	u, err := url.Parse(base)
	if err != nil || base == "" {
		return ""
	}
	query := u.Query()
	query.Set(callbackParam, workflowID)
	u.RawQuery = query.Encode()
	return u.String()
}

// CallbackWorkflow returns the workflow ID that a callback's URL names; "" is
// none.
func CallbackWorkflow(u *url.URL) string { return u.Query().Get(callbackParam) }
