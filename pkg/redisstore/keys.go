package redisstore

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/runcast/runcast/pkg/progress"
)

// shards is how many sorted sets share the list of workflows, so that on a
// cluster no single node holds all of it.
const shards = 16

// MaxTagBytes and MaxTags bound the tags of one workflow.
const (
	MaxTagBytes = 256
	MaxTags     = 32
)

// keyspace builds every key and channel. Nothing else in the package spells
// one. The braces are literal: they are the part of a key that Redis Cluster
// hashes, so all keys of a workflow live in one slot.
type keyspace struct {
	prefix string // encoded, with its colon; or empty
}

func newKeyspace(prefix string) keyspace {
	if prefix == "" {
		return keyspace{}
	}
	return keyspace{prefix: EncodeID(strings.TrimSuffix(prefix, ":")) + ":"}
}

// workflowKeys are the keys of one workflow.
type workflowKeys struct {
	hash, stream, producers, updates string
}

func (k keyspace) workflow(id string) workflowKeys {
	base := k.prefix + "workflow:{" + EncodeID(id) + "}"
	return workflowKeys{hash: base, stream: base + ":events", producers: base + ":producers", updates: base + ":updates"}
}

// tagKeys are the keys of one tag.
type tagKeys struct {
	ids, summaries, updates string
}

func (k keyspace) tag(tag string) tagKeys {
	base := k.prefix + "tag:{" + EncodeID(tag) + "}"
	return tagKeys{ids: base, summaries: base + ":summaries", updates: base + ":updates"}
}

// running and recent are one shard each of the sorted sets of encoded
// workflow IDs by last change.
func (k keyspace) running(shard int) string {
	return k.prefix + "running:{" + strconv.Itoa(shard) + "}"
}
func (k keyspace) recent(shard int) string { return k.prefix + "recent:{" + strconv.Itoa(shard) + "}" }

// channel returns the channel on which a topic's messages are published.
func (k keyspace) channel(t progress.Topic) string {
	if t.Kind == progress.TopicTag {
		return k.tag(t.Name).updates
	}
	return k.workflow(t.Name).updates
}

// shard returns the shard of a workflow: CRC-32 (IEEE, as in zlib) of the
// encoded ID, modulo the number of shards.
func shard(encodedID string) int {
	return int(crc32.ChecksumIEEE([]byte(encodedID)) % shards)
}

// EncodeID returns text as it stands in keys, set members and log lines:
// every byte that is not a printable ASCII character, and each of % { } " ' \
// is written as % and two upper-case hex digits.
func EncodeID(text string) string {
	n := 0
	for i := range len(text) {
		if mustEncode(text[i]) {
			n++
		}
	}
	if n == 0 {
		return text
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(text)+2*n)
	for i := range len(text) {
		c := text[i]
		if mustEncode(c) {
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func mustEncode(c byte) bool {
	return c <= ' ' || c >= 0x7f || c == '%' || c == '{' || c == '}' || c == '"' || c == '\'' || c == '\\'
}

// DecodeID is the inverse of [EncodeID]. Text that EncodeID does not write is
// an error that wraps [progress.ErrInvalid].
func DecodeID(encoded string) (string, error) {
	b := make([]byte, 0, len(encoded))
	for i := 0; i < len(encoded); i++ {
		c := encoded[i]
		switch {
		case c != '%':
			b = append(b, c)
		case i+2 < len(encoded):
			n, err := strconv.ParseUint(encoded[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("%w: decode %q: bad escape", progress.ErrInvalid, encoded)
			}
			b = append(b, byte(n))
			i += 2
		default:
			return "", fmt.Errorf("%w: decode %q: cut short", progress.ErrInvalid, encoded)
		}
	}
	id := string(b)
	if EncodeID(id) != encoded {
		return "", fmt.Errorf("%w: decode %q: not in canonical form", progress.ErrInvalid, encoded)
	}
	return id, nil
}

// checkTopic reports a topic that no key can be built for.
func checkTopic(t progress.Topic) error {
	if t.Kind == progress.TopicTag {
		return checkTag(t.Name)
	}
	return progress.CheckWorkflowID(t.Name)
}

func checkTag(tag string) error {
	switch {
	case tag == "":
		return fmt.Errorf("%w: a tag is empty", progress.ErrInvalid)
	case len(tag) > MaxTagBytes:
		return fmt.Errorf("%w: a tag has %d bytes; %d are allowed", progress.ErrInvalid, len(tag), MaxTagBytes)
	}
	return nil
}

// slotOf returns the slot of a key or channel on a cluster: CRC-16 (XMODEM)
// of the text between the first braces, modulo 16,384.
func slotOf(key string) int {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % 16384)
}
