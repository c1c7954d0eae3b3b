package redisurl_test

import (
	"testing"

	"github.com/runcast/runcast/cmd/dev/internal/redisurl"
)

func TestWithoutPasswords(t *testing.T) {
	for _, tt := range []struct{ url, redacted, address string }{
		{"redis://127.0.0.1:6379", "redis://127.0.0.1:6379", "127.0.0.1:6379"},
		{"redis://:secret@redis:6379/1", "redis://:xxxxx@redis:6379/1", "redis:6379"},
		{"redis://u:s@crt@redis:6379?addr=b:1", "redis://u:xxxxx@redis:6379?addr=b%3A1", "redis:6379"},
		{"redis+sentinel://:secret@a,b:2/m", "redis+sentinel://:xxxxx@a,b:2/m", "a,b:2"},
		{"redis+sentinel://a:1/m?sentinel_password=secret", "redis+sentinel://a:1/m?sentinel_password=xxxxx", "a:1"},
		{"unix://:secret@/run/redis.sock", "unix://:xxxxx@/run/redis.sock", ""},
		{"unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1", "/run/redis.sock"},
		{"secret", "secret", "(REDIS_URL)"},
	} {
		if got := redisurl.Redacted(tt.url); got != tt.redacted {
			t.Errorf("%s is shown as %s, want %s", tt.url, got, tt.redacted)
		}
		if got := redisurl.Address(tt.url); got != tt.address {
			t.Errorf("%s leads to %s, want %s", tt.url, got, tt.address)
		}
	}
}
