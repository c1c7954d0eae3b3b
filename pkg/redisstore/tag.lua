-- tag.lua: lists one workflow under one tag and tells its followers.
-- KEYS 1 tag:{TAG}, 2 tag:{TAG}:summaries
-- ARGV 1 channel, 2 PUBLISH or SPUBLISH, 3 encoded ID, 4 score (Unix ms of
--      the last change), 5 summary JSON, 6 epoch, 7 seq, 8 expiry in ms
-- Answer: 1, or 0 if what is there is as new: summaries are read and written
-- by many processes, and a slow one must not bring back the past.
local old = redis.call('HGET', KEYS[2], ARGV[3])
if old then
  local epoch, seq = string.match(old, '"position":"(%d+)%-(%d+)%-%x+"}$')
  if epoch == ARGV[6] and tonumber(seq) >= tonumber(ARGV[7]) then return 0 end
end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[5])
redis.call('ZADD', KEYS[1], ARGV[4], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[8])
redis.call('PEXPIRE', KEYS[2], ARGV[8])
redis.pcall(ARGV[2], ARGV[1], ARGV[5])
return 1
