package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// document puts the tables between their marks in strategies.md, and the plot
// beside it.
func (c *comparison) document(dir string, plot []byte) error {
	file := filepath.Join(dir, "strategies.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("-docs: %w", err)
	}
	for _, part := range []struct{ name, text string }{{"summary", c.summary()}, {"figures", c.markdown()}} {
		if text, err = replace(text, part.name, part.text); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if err := os.WriteFile(file, text, 0o666); err != nil {
		return fmt.Errorf("write the tables: %w", err)
	}
	return save(filepath.Join(dir, "images"), "strategies.svg", plot)
}

// replace puts a text between the marks of a name.
func replace(doc []byte, name, text string) ([]byte, error) {
	begin, end := fmt.Appendf(nil, "<!-- begin %s -->\n", name), fmt.Appendf(nil, "<!-- end %s -->", name)
	i, j := bytes.Index(doc, begin), bytes.Index(doc, end)
	if i < 0 || j < i {
		return nil, fmt.Errorf("the marks %q and %q are not there, or not in this order", begin, end)
	}
	out := append([]byte{}, doc[:i+len(begin)]...)
	return append(append(out, text...), doc[j:]...), nil
}
