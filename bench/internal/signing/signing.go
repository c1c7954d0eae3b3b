// Package signing has the secret with which the worker of a comparison signs
// what it tells the process of the viewers. Both are of this machine, and live
// for some minutes.
package signing

import "github.com/runcast/runcast/pkg/webhook"

// secret is of no use to anybody: nothing but a comparison is signed with it.
const secret = "whsec_Y29tcGFyZS1jb21wYXJlLWNvbXBhcmUtY29tcGFyZSE="

// Keys are those of both sides.
func Keys() (webhook.Keys, error) { return webhook.ParseKeys(secret) }
