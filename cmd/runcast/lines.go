package main

import (
	"bytes"
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
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false) // what was written is what is shown
	err := enc.Encode(struct {
		Event string          `json:"event"`
		ID    string          `json:"id,omitempty"`
		Data  json.RawMessage `json:"data"`
	}{f.kind, f.id, f.data})
	if err != nil {
		return fmt.Errorf("the server sent no JSON: %w", err)
	}
	_, err = l.w.Write(line.Bytes())
	return err
}

func (l *lines) tick() error { return nil }

func (l *lines) note(stderr io.Writer, text string) {
	fmt.Fprintf(stderr, "runcast: %s\n", text)
}

func (l *lines) close() {}
