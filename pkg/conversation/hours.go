package conversation

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/message"
)

// recordScript writes all entries or none, and once for a message.
var recordScript = redis.NewScript(`
-- KEYS: hours, noted. ARGV: how long hours and notes are kept in ms, the note,
-- and for each entry its day, project, hours and "1" to replace.
-- Returns "full" where a day would have more than 24 hours, the note where
-- there is one already, and "" when it has recorded.
local noted = redis.call('GET', KEYS[2])
if noted then return noted end
local hours, all = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do hours[all[i]] = tonumber(all[i + 1]) or 0 end
local changed, days = {}, {}
for i = 4, #ARGV, 4 do
	local field = ARGV[i] .. ' ' .. ARGV[i + 1]
	local before = hours[field] or 0
	if ARGV[i + 3] == '1' and not changed[field] then before = 0 end
	hours[field] = before + tonumber(ARGV[i + 2])
	changed[field], days[ARGV[i]] = true, 0
end
for field, h in pairs(hours) do
	local day = string.sub(field, 1, 10)
	if days[day] then days[day] = days[day] + h end
end
for _, sum in pairs(days) do
	if sum > 24.001 then return 'full' end
end
for field in pairs(changed) do
	redis.call('HSET', KEYS[1], field, string.format('%.10g', hours[field]))
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2])
return ''`)

var _ agents.Hours = (*Store)(nil)

// Record implements [agents.Hours].
func (s *Store) Record(ctx context.Context, who message.Address, key string, entries []agents.Entry) ([]agents.Entry, error) {
	note, err := json.Marshal(entries)
	if err != nil {
		return nil, fmt.Errorf("encode entries: %w", err)
	}
	args := []any{s.o.KeepHours.Milliseconds(), s.o.KeepMessages.Milliseconds(), note}
	for _, e := range entries {
		args = append(args, e.Day, e.Project, strconv.FormatFloat(e.Hours, 'f', -1, 64), e.Replace)
	}
	hours, noted := s.hoursKeys(who, key)
	switch answer, err := recordScript.Run(ctx, s.client, []string{hours, noted}, args...).Text(); {
	case err != nil:
		return nil, wrap("record hours", err)
	case answer == "full":
		return nil, agents.ErrFullDay
	case answer != "":
		return readNote(answer, entries)
	}
	return entries, nil
}

// Recorded implements [agents.Hours].
func (s *Store) Recorded(ctx context.Context, who message.Address, key string) ([]agents.Entry, error) {
	_, noted := s.hoursKeys(who, key)
	note, err := s.client.Get(ctx, noted).Result()
	if err == redis.Nil { //nolint:errorlint // the client returns it as it is
		return nil, nil
	} else if err != nil {
		return nil, wrap("read what was recorded", err)
	}
	return readNote(note, nil)
}

func (s *Store) hoursKeys(who message.Address, key string) (hours, noted string) {
	hours = s.key("hours", person(who))
	return hours, hours + ":noted:" + key
}

// readNote returns the entries of a note; otherwise for the note "1", which
// earlier versions wrote and which does not say.
func readNote(note string, otherwise []agents.Entry) ([]agents.Entry, error) {
	if note == "1" {
		return otherwise, nil
	}
	var entries []agents.Entry
	if err := json.Unmarshal([]byte(note), &entries); err != nil {
		return nil, fmt.Errorf("read a note of what was recorded: %w", err)
	}
	return entries, nil
}

// Between implements [agents.Hours].
func (s *Store) Between(ctx context.Context, who message.Address, first, last string) ([]agents.Entry, error) {
	all, err := s.client.HGetAll(ctx, s.key("hours", person(who))).Result()
	if err != nil {
		return nil, wrap("read hours", err)
	}
	var list []agents.Entry
	for field, text := range all {
		day, project, ok := strings.Cut(field, " ")
		hours, err := strconv.ParseFloat(text, 64)
		if _, e := time.Parse(time.DateOnly, day); !ok || e != nil || err != nil {
			continue // not ours: somebody has written by hand
		}
		if day >= first && day <= last && hours != 0 {
			list = append(list, agents.Entry{Day: day, Project: project, Hours: hours})
		}
	}
	slices.SortFunc(list, func(a, b agents.Entry) int {
		return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Project, b.Project))
	})
	return list, nil
}
