package main

import (
	"encoding/json"
	"fmt"
	"io"
)

// lines shows each frame as one JSON object on one line, for programs. The
// form is that of the WebSocket: {"event","id","data"}.
type lines struct {
	w io.Writer
}

func (l *lines) frame(f frame) error {
	line, err := json.Marshal(struct {
		Event string          `json:"event"`
		ID    string          `json:"id,omitempty"`
		Data  json.RawMessage `json:"data"`
	}{f.kind, f.id, f.data})
	if err != nil {
		return fmt.Errorf("the server sent no JSON: %w", err)
	}
	_, err = l.w.Write(append(line, '\n'))
	return err
}

func (l *lines) tick() error { return nil }

func (l *lines) note(stderr io.Writer, text string) {
	fmt.Fprintf(stderr, "runcast: %s\n", text)
}

func (l *lines) close() {}
