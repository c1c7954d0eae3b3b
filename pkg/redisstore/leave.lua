-- leave.lua: a producer has written its last. Idempotent.
-- KEYS 1 workflow:{ID}:producers
-- ARGV 1 producer, 2 started, 3 attempt, 4 nonce; see append.lua.
-- Answer: 1 if the entry is gone or marked, 0 if it is another execution's.
-- An execution's entry stays as a mark, which gives way when room is needed:
-- a copy of its last append may still be under way, and an earlier execution
-- may still run. A program that has no execution is forgotten, since it
-- begins again with the number 1.
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then return 1 end
local position, rank = string.match(entry, '^(%d+ %d+ %x+) (%d+ %d+ %S+) ?%a*$')
if rank ~= ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4] then return 0 end
if rank == '0 0 -' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], position .. ' ' .. rank .. ' done')
end
return 1
