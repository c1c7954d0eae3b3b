package webhook

import (
	"context"
	"syscall"
)

// OnDial has the sender call f with each address that its guard has let
// through, right before the connection is made; f's error prevents it.
func (s *Sender) OnDial(f func(address string) error) {
	guard := s.dialer.ControlContext
	s.dialer.ControlContext = func(ctx context.Context, network, address string, c syscall.RawConn) error {
		if err := guard(ctx, network, address, c); err != nil {
			return err
		}
		return f(address)
	}
}
