package hub

import "encoding/json"

func mustDecode(data []byte, v any) {
	if err := json.Unmarshal(data, v); err != nil {
		panic(err)
	}
}

func ptr[T any](v T) *T { return &v }

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
