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

// connect makes a connection, as a handler does that is let in.
func connect(h *Hub, tr Transport) (*Conn, error) {
	place, err := h.Reserve()
	if err != nil {
		return nil, err
	}
	return place.NewConn(tr, nil)
}
