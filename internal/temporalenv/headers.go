package temporalenv

import (
	"context"
	"net/url"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// resourceHeader is what the SDK (seen in 1.50) fills with the workflow ID as
// it is. gRPC refuses to send a header that is not printable ASCII, so every
// call about a workflow whose ID has other letters would fail, although
// Temporal takes such IDs. Servers use the header for routing only and read
// the ID itself from the request.
const resourceHeader = "temporal-resource-id"

// asciiHeaders is an interceptor that percent-encodes such a header. It must
// come after the SDK's own.
func asciiHeaders(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		for _, value := range md.Get(resourceHeader) {
			if !printable(value) {
				md.Set(resourceHeader, url.PathEscape(value)) // md is a copy
				ctx = metadata.NewOutgoingContext(ctx, md)
				break
			}
		}
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

func printable(text string) bool {
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
