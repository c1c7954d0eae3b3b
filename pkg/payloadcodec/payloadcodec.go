// Package payloadcodec encrypts what Temporal keeps of runs: inputs, results,
// signals, and with them telephone numbers and texts. Temporal's servers and
// their web UI then see ciphertext only; workers and API share the keys.
//
// Memos are encrypted with them, Runcast's tags among them; search attributes
// are not.
package payloadcodec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"
)

const (
	// encoding marks an encrypted payload, keyField names its key.
	encoding = "binary/runcast-aes-256-gcm"
	keyField = "runcast-key"
	// keyBytes is the length of a key: AES-256.
	keyBytes = 32
)

// ErrUnknownKey is wrapped where a payload was encrypted with a key that is
// not there.
var ErrUnknownKey = errors.New("the payload is encrypted with a key that is not known")

// Codec encrypts with its first key and decrypts with any of them, so that
// keys can be changed while runs are open. It is safe for concurrent use.
type Codec struct {
	first string
	keys  map[string]cipher.AEAD // by ID
}

var _ converter.PayloadCodec = (*Codec)(nil)

// New returns a codec with the given keys: base64 of 32 bytes each, as
// `openssl rand -base64 32` makes them, separated by commas, the newest
// first. Its error does not repeat a key.
func New(keys string) (*Codec, error) {
	c := &Codec{keys: make(map[string]cipher.AEAD)}
	for i, text := range strings.Split(keys, ",") {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil || len(key) != keyBytes {
			return nil, fmt.Errorf("key %d is not base64 of %d bytes; make one with: openssl rand -base64 %d", i+1, keyBytes, keyBytes)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		// The ID says which key, and nothing about it.
		sum := sha256.Sum256(append([]byte("runcast payload key "), key...))
		id := hex.EncodeToString(sum[:8])
		if i == 0 {
			c.first = id
		}
		c.keys[id] = aead
	}
	return c, nil
}

// Converter returns the data converter that uses the codec.
func (c *Codec) Converter() converter.DataConverter {
	return converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), c)
}

// Failures returns the failure converter that encrypts messages of errors,
// too.
func (c *Codec) Failures() converter.FailureConverter {
	return temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{
		DataConverter: c.Converter(), EncodeCommonAttributes: true,
	})
}

// Encode implements [converter.PayloadCodec].
func (c *Codec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	aead := c.keys[c.first]
	for i, p := range payloads {
		plain, err := proto.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("encode a payload: %w", err)
		}
		nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
		rand.Read(nonce) // does not fail
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte(encoding), keyField: []byte(c.first)},
			Data:     aead.Seal(nonce, nonce, plain, nil),
		}
	}
	return out, nil
}

// Decode implements [converter.PayloadCodec]. Payloads that are not encrypted
// are taken as they are: runs that began before there was a key go on.
func (c *Codec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if string(p.GetMetadata()[converter.MetadataEncoding]) != encoding {
			out[i] = p
			continue
		}
		aead, ok := c.keys[string(p.Metadata[keyField])]
		if !ok {
			return nil, fmt.Errorf("%w: %.16s; put it behind the new one in RUNCAST_PAYLOAD_KEYS", ErrUnknownKey, p.Metadata[keyField])
		}
		n := aead.NonceSize()
		if len(p.Data) < n {
			return nil, errors.New("decrypt a payload: it is cut short")
		}
		plain, err := aead.Open(nil, p.Data[:n], p.Data[n:], nil)
		if err != nil {
			return nil, fmt.Errorf("decrypt a payload: %w", err)
		}
		out[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(plain, out[i]); err != nil {
			return nil, fmt.Errorf("decode a payload: %w", err)
		}
	}
	return out, nil
}
