// Package twiliohook reads the requests that Twilio makes: it checks who
// signed them, against the URL that Twilio was given and not one that the
// request claims, reads their forms into the words of [message], and writes
// the answers.
//
// It knows no Temporal and no Redis.
package twiliohook
