-- unindex.lua: takes a member out of a sorted set unless it has changed
-- since: a newer run may have put it there again, by a clock that is behind.
-- KEYS 1 sorted set, 2 (a tag's only) hash that has a field of that name
-- ARGV 1 member, 2 the score that it had. Answer: 1 if it was removed, else 0.
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) ~= tonumber(ARGV[2]) then return 0 end
if KEYS[2] then redis.call('HDEL', KEYS[2], ARGV[1]) end
return redis.call('ZREM', KEYS[1], ARGV[1])
