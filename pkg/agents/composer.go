package agents

import (
	"context"
	"regexp"
	"strings"
)

// MaxReply is the longest reply, in characters; Twilio takes 1,600.
const MaxReply = 1500

// Help says what can be asked.
const Help = `I keep your timesheet. Try "log 8h on apollo yesterday", "how many hours this week?", "remind me at 5pm", or a question such as "how many days of leave do I have?". STOP ends all messages.`

// Again is what a sender who has opted in again is told.
const Again = "You will get messages again. " + Help

var (
	greetingPattern = regexp.MustCompile(`(?i)^\s*(hi|hello|hey|hallo|good (morning|afternoon|evening))\b`)
	thanksPattern   = regexp.MustCompile(`(?i)\b(thanks?|thank you|thx|cheers)\b`)
)

// compose puts the findings together.
func compose(_ context.Context, task Task, w Watcher) (Finding, error) {
	w.Thought("Putting the reply together.", "Putting the reply together.")
	text := Join(task.Findings)
	if text == "" {
		switch {
		case thanksPattern.MatchString(task.Text):
			text = "You are welcome."
		case greetingPattern.MatchString(task.Text):
			text = "Hello! " + Help
		default:
			text = "I did not understand that. " + Help
		}
	}
	say(w, text)
	return Finding{Agent: Composer, Text: text}, nil
}

// Join returns what the findings say, in their order, within the bound of a
// reply; "" where they say nothing.
func Join(findings []Finding) string {
	var parts []string
	for _, f := range findings {
		switch {
		case f.Failed:
			parts = append(parts, "Sorry, my "+string(f.Agent)+" part does not work right now; please try again later.")
		default:
			parts = append(parts, f.Done...)
			if f.Text != "" {
				parts = append(parts, f.Text)
			}
		}
	}
	return clip(strings.Join(parts, "\n"), MaxReply-1)
}
