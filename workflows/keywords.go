package workflows

import (
	"strings"

	"github.com/runcast/runcast/pkg/message"
)

// keyword is a message that is a command about messages themselves.
type keyword string

const (
	keywordStop  keyword = "stop"
	keywordStart keyword = "start"
	keywordHelp  keyword = "help"
)

// keywords are the words that Twilio takes for such commands, too. They count
// only when they are the whole message.
var keywords = map[string]keyword{
	"stop": keywordStop, "stopall": keywordStop, "unsubscribe": keywordStop, "cancel": keywordStop,
	"end": keywordStop, "quit": keywordStop, "revoke": keywordStop, "optout": keywordStop,
	"start": keywordStart, "unstop": keywordStart,
	"help": keywordHelp, "info": keywordHelp,
}

// keywordOf returns the command that a message is; "" is none. A mail is
// none: a person may well write "Cancel" in one.
func keywordOf(in message.Inbound) keyword {
	if in.Channel == message.ChannelEmail {
		return ""
	}
	return keywords[wordOf(in.Text)]
}

// wordOf returns a message as a single word is compared.
func wordOf(text string) string { return strings.ToLower(strings.Trim(text, " \t\r\n.!\"'")) }

// meansYes reports whether a message of somebody who has opted out takes that
// back: of others, YES may be the answer to anything.
func meansYes(in message.Inbound) bool {
	return in.Channel != message.ChannelEmail && wordOf(in.Text) == "yes"
}
