package payloadcodec_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.uber.org/goleak"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/payloadcodec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) }

func codec(t *testing.T, keys string) *payloadcodec.Codec {
	t.Helper()
	c, err := payloadcodec.New(keys)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRoundTrip(t *testing.T) {
	in := message.Inbound{From: "+61491570156", Text: "log 8h on sesame"}
	c := codec(t, key(1)).Converter()
	p, err := c.ToPayload(in)
	if err != nil {
		t.Fatal(err)
	}
	if text := p.String(); strings.Contains(text, "sesame") || strings.Contains(text, "61491570156") {
		t.Errorf("the payload shows it: %s", text)
	}
	q, err := c.ToPayload(in)
	if err != nil || bytes.Equal(p.Data, q.Data) {
		t.Errorf("the same is encrypted alike twice, %v", err)
	}
	// Also with the key as an old one, behind another.
	var out message.Inbound
	if err := codec(t, key(2)+", "+key(1)).Converter().FromPayload(p, &out); err != nil || out != in {
		t.Errorf("got %v, %v", out, err)
	}
	if err := codec(t, key(2)).Converter().FromPayload(p, &out); !errors.Is(err, payloadcodec.ErrUnknownKey) {
		t.Errorf("another key: %v", err)
	}
	p.Data[len(p.Data)-1] ^= 1
	if err := c.FromPayload(p, &out); err == nil {
		t.Error("a payload that was changed is taken")
	}
	p.Data = p.Data[:3]
	if err := c.FromPayload(p, &out); err == nil {
		t.Error("a payload that was cut short is taken")
	}
}

// Runs that began before there was a key go on.
func TestPlainPayloadsAreTaken(t *testing.T) {
	p, err := converter.GetDefaultDataConverter().ToPayload("plain")
	if err != nil {
		t.Fatal(err)
	}
	var out string
	if err := codec(t, key(1)).Converter().FromPayload(p, &out); err != nil || out != "plain" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestFailuresAreEncrypted(t *testing.T) {
	c := codec(t, key(1))
	f := c.Failures().ErrorToFailure(temporal.NewApplicationError("about sesame", "X"))
	if strings.Contains(f.String(), "sesame") {
		t.Errorf("the failure shows it: %s", f)
	}
	if err := c.Failures().FailureToError(f); !strings.Contains(err.Error(), "about sesame") {
		t.Errorf("got %v", err)
	}
}

func TestBadKeys(t *testing.T) {
	for _, keys := range []string{"", "sesame", key(1)[:20], key(1) + ",", base64.StdEncoding.EncodeToString([]byte("sixteen bytes ..")), key(1) + ",sesame"} {
		_, err := payloadcodec.New(keys)
		if err == nil || !strings.Contains(err.Error(), "openssl rand -base64 32") || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: %v", keys, err)
		}
	}
}
