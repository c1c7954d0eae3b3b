-- renew.lua: gives the keys of a workflow a full expiry while its chain is
-- open. One that has closed since its hash was read keeps its shorter one.
-- KEYS 1 workflow:{ID}, 2 workflow:{ID}:events, 3 workflow:{ID}:producers
-- ARGV 1 expiry in ms. Answer: 1 if it was given, else 0.
if redis.call('HEXISTS', KEYS[1], 'closed_at') == 1 then return 0 end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[1]) end
return 1
