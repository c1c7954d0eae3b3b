package redisstore

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// appendArgs checks an append and encodes it as the script's ARGV.
func (s *Store) appendArgs(a *Append) ([]any, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	args := make([]any, 0, 5+3*len(a.Events))
	args = append(args, s.appendOptions(a), EncodeID(a.Producer.Name), a.Fence.RunID, a.Fence.Chain, a.WorkflowID)
	total := 0
	for i := range a.Events {
		var size int
		var err error
		if args, size, err = appendEventArgs(args, &a.Events[i]); err != nil {
			return nil, err
		}
		total += size
	}
	if total > MaxAppendBytes {
		return nil, fmt.Errorf("%w: an append of %d bytes of JSON; %d are allowed, so make it several", progress.ErrInvalid, total, MaxAppendBytes)
	}
	return args, nil
}

// appendOptions returns the first argument.
func (s *Store) appendOptions(a *Append) string {
	b := append(make([]byte, 0, 160), s.publish...)
	for _, n := range [...]int64{
		s.now().UnixMilli(), s.opts.TTLRunning.Milliseconds(), s.opts.TTLClosed.Milliseconds(), int64(max(s.opts.MaxLen, 0)),
		int64(s.opts.MaxProducers), unixMilli(a.Fence.RunTime), flag(a.Fence.Provisional), a.Number,
		unixMilli(a.Producer.Started), int64(max(a.Producer.Attempt, 0)),
	} {
		b = strconv.AppendInt(append(b, ' '), n, 10)
	}
	b = append(append(b, ' '), nonce(a.Producer.Nonce)...)
	return string(strconv.AppendInt(append(b, ' '), flag(a.Producer.Sparse), 10))
}

// appendEventArgs adds the arguments of one event, and returns how many bytes
// its JSON has. What the hash gets is what a reader of the event's JSON gets:
// the same time, the same numbers, text with what is not UTF-8 replaced.
func appendEventArgs(args []any, e *progress.Event) ([]any, int, error) {
	body, err := e.AppendBody(nil)
	if err != nil {
		return nil, 0, err
	}
	if len(body) > MaxEventBytes {
		return nil, 0, fmt.Errorf("%w: a %s event has %d bytes of JSON; %d are allowed", progress.ErrInvalid, e.Type, len(body), MaxEventBytes)
	}
	step := validText(e.Step)
	if len(step) > MaxStepBytes {
		return nil, 0, fmt.Errorf("%w: the name of a step has %d bytes; %d are allowed", progress.ErrInvalid, len(step), MaxStepBytes)
	}
	texts, err := foldedTexts(e, step)
	if err != nil {
		return nil, 0, err
	}
	place := len(args)
	args = append(args, nil, body[1:])
	letters := make([]byte, 0, len(texts))
	for _, t := range texts {
		if t.text != "" {
			letters, args = append(letters, t.letter), append(args, t.text)
		}
	}
	head, err := encodeHead(e, string(letters))
	if err != nil {
		return nil, 0, err
	}
	args[place] = head
	return args, len(body), nil
}

// letteredText is a text that the fold takes from an event, and the letter
// that names it. Empty: there is none.
type letteredText struct {
	letter byte
	text   string
}

// foldedTexts returns the texts that the fold takes from an event of its
// type, in the script's order.
func foldedTexts(e *progress.Event, step string) ([]letteredText, error) {
	var tags string
	var err error
	if len(e.Tags) > 0 {
		if tags, err = encodeJSON(e.Tags); err != nil {
			return nil, err
		}
	}
	var texts []letteredText
	switch e.Type {
	case progress.TypeProgress:
		texts = append(texts, letteredText{'s', step}, letteredText{'m', validText(e.Message)})
	case progress.TypeStep:
		state, err := encodeState(e)
		if err != nil {
			return nil, err
		}
		if len(state) > MaxStateBytes {
			return nil, fmt.Errorf("%w: the state of a step has %d bytes of JSON; %d are allowed", progress.ErrInvalid, len(state), MaxStateBytes)
		}
		texts = append(texts, letteredText{'s', step}, letteredText{'j', state})
	case progress.TypeOutput:
		texts = append(texts, letteredText{'s', step})
	case progress.TypeClosed:
		texts = append(texts, letteredText{'e', validText(e.Error)})
	}
	return append(texts, letteredText{'w', validText(e.WorkflowType)}, letteredText{'t', tags}), nil
}

// encodeHead returns an event's first argument.
func encodeHead(e *progress.Event, letters string) (string, error) {
	percent := ""
	if e.Percent != nil {
		text, err := json.Marshal(*e.Percent)
		if err != nil {
			return "", fmt.Errorf("%w: percent: %w", progress.ErrInvalid, err)
		}
		percent = string(text)
	}
	attempt := ""
	if e.Attempt > 0 {
		attempt = strconv.Itoa(e.Attempt)
	}
	b := append(make([]byte, 0, 80), e.Type...)
	for _, word := range [...]string{letters, attempt, formatTime(e.Time), string(e.Status), percent, optional(e.Current), optional(e.Total)} {
		b = append(append(b, ' '), cmp.Or(word, "-")...)
	}
	return string(b), nil
}

// encodeState returns the step's JSON as the hash holds it, but for first and
// seq, which the script puts in front.
func encodeState(e *progress.Event) (string, error) {
	return encodeJSON(progress.Step{
		Status: e.Status, Percent: e.Percent, Current: e.Current, Total: e.Total,
		Message: e.Message, Error: e.Error, Attempt: e.Attempt, Time: e.Time.UTC().Truncate(time.Microsecond),
	})
}

func encodeJSON(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", fmt.Errorf("%w: encode: %w", progress.ErrInvalid, err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// validText replaces every byte that is not UTF-8, one by one, as
// encoding/json does in the body.
func validText(text string) string { return string([]rune(text)) }

func formatTime(t time.Time) string {
	return t.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
}

func optional(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixMilli(), 0)
}

func flag(on bool) int64 {
	if on {
		return 1
	}
	return 0
}

// nonce returns the text as one word; "-" is none.
func nonce(text string) string {
	if text == "" {
		return "-"
	}
	return EncodeID(text)
}
