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
	return keywords[strings.ToLower(strings.Trim(in.Text, " \t\r\n.!\"'"))]
}
