// Package message holds the words of the messaging application: who writes
// to whom ([Address]), what came in ([Inbound]), what goes out ([Outgoing])
// and what became of it ([Receipt]), the classes of error of a send, and what
// the API and the workflows tell each other.
//
// Addresses and texts are private. An [Address] is masked wherever it is
// printed or logged; [Address.Raw] is the only way to the plain text. JSON
// carries both plainly, since they travel in workflow inputs.
//
// It knows no Twilio, no Temporal and no Redis, and imports the standard
// library only.
package message
