package conversation

import (
	"cmp"
	"context"
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
-- KEYS: hours, noted. ARGV: "1" to replace, how long hours and notes are kept
-- in ms, and for each entry its day, project and hours.
-- Returns "full" where a day would have more than 24 hours.
if redis.call('EXISTS', KEYS[2]) == 1 then return 'noted' end
local hours, all = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do hours[all[i]] = tonumber(all[i + 1]) or 0 end
local changed, days = {}, {}
for i = 4, #ARGV, 3 do
	local field = ARGV[i] .. ' ' .. ARGV[i + 1]
	local before = hours[field] or 0
	if ARGV[1] == '1' and not changed[field] then before = 0 end
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
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], '1', 'PX', ARGV[3])
return 'recorded'`)

var _ agents.Hours = (*Store)(nil)

// Record implements [agents.Hours].
func (s *Store) Record(ctx context.Context, who message.Address, key string, replace bool, entries []agents.Entry) error {
	hours := s.key("hours", person(who))
	args := []any{replace, s.o.KeepHours.Milliseconds(), s.o.KeepMessages.Milliseconds()}
	for _, e := range entries {
		args = append(args, e.Day, e.Project, strconv.FormatFloat(e.Hours, 'f', -1, 64))
	}
	answer, err := recordScript.Run(ctx, s.client, []string{hours, hours + ":noted:" + key}, args...).Text()
	if err == nil && answer == "full" {
		return agents.ErrFullDay
	}
	return wrap("record hours", err)
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
