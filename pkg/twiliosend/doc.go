// Package twiliosend sends messages through Twilio, one attempt a call, and
// says of every failure whether the message may have been taken. Twilio knows
// no idempotency key: who does not know must look with [Client.Find] before
// sending again.
//
// It knows no Temporal and no Redis.
package twiliosend
