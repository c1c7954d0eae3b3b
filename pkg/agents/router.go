package agents

import (
	"context"
	"regexp"
	"slices"
	"strings"
)

var ownHoursPattern = regexp.MustCompile(`(?i)\b(have i|did i|my hours|my timesheet|i (have|had|logged)|logged|this week|last week|this month|last month|today|yesterday|on (` + weekdayWords + `))\b`)

// route names what a message is about.
func route(_ context.Context, task Task, w Watcher) (Finding, error) {
	var intents []Name
	reminds := remindPattern.MatchString(task.Text)
	_, text := splitReminder(task.Text)
	own := records(text) || reports(text) && (ownHoursPattern.MatchString(text) || !asksPolicy(text))
	if own {
		intents = append(intents, Timesheet)
	}
	if !own && asksPolicy(text) || own && asksMore(text) {
		intents = append(intents, Policy)
	}
	if reminds {
		intents = append(intents, Schedule)
	}
	return routed(w, intents), nil
}

// asksMore reports whether one of several sentences, one that is not about
// the sender's hours, asks what the documents may answer.
func asksMore(text string) bool {
	sentences := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(".;!\n", r) })
	for _, s := range sentences {
		if !records(s) && !reports(s) && asksPolicy(s) {
			return true
		}
	}
	return false
}

// routed tells the watcher what the router has decided, and returns it.
func routed(w Watcher, intents []Name) Finding {
	text := "This is for nobody in particular."
	if len(intents) > 0 {
		names := make([]string, len(intents))
		for i, name := range intents {
			names[i] = string(name)
		}
		text = "This is for: " + strings.Join(names, ", ") + "."
	}
	w.Thought(text, text)
	return Finding{Agent: Router, Intents: intents}
}

// known returns those of the names that are specialists, each once, in their
// order.
func known(names []Name) []Name {
	return slices.DeleteFunc(Specialists(), func(n Name) bool { return !slices.Contains(names, n) })
}
