package hub

import (
	"encoding/json"
	"strings"
	"testing"
)

var texts = []string{
	``, ` `, `0`, `-0`, `00`, `01`, `-`, `-1.5e+10`, `1.`, `.5`, `1e`, `1E-`, `1e5`, `+1`, `1x`, `0x1`, `true`, `truer`, `tru`, `null `, `nul`, `false`,
	`"a"`, `"`, `"a`, `"\`, `"\"`, `"\"\\\/\b\f\n\r\t"`, `"\u00e9"`, `"\u00e"`, `"\x"`, "\"\t\"", "\"\x00\"", "\"\xff\"", `"é"`, `'a'`,
	`{}`, `{ }`, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a" : [ 1 , "b" , {} ] }`, `{a:1}`, `{"a":1 "b":2}`, `{1:2}`, `{"a"1}`, `{"a":}`,
	`[]`, `[ ]`, `[`, `[1`, `[1,`, `[1,]`, `[,]`, `[1 2]`, `[1}`, `{"a":1]`, `[] []`, `[]x`, "\r\n[\t]\n", "\v1",
	strings.Repeat("[", 40) + strings.Repeat("]", 40), strings.Repeat("[", 40), strings.Repeat("[", 31) + "1" + strings.Repeat("]", 31),
	string(newWire().next()),
}

func TestValidJSON(t *testing.T) {
	for _, text := range texts {
		if got, want := validJSON([]byte(text)), json.Valid([]byte(text)); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}

func FuzzValidJSON(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, want := validJSON(data), json.Valid(data); got != want {
			t.Errorf("%q: %t, want %t", data, got, want)
		}
	})
}

func BenchmarkValid(b *testing.B) {
	data := newWire().next()
	for name, valid := range map[string]func([]byte) bool{"hub": validJSON, "json": json.Valid} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if !valid(data) {
					b.Fatal("it is not taken")
				}
			}
		})
	}
}
