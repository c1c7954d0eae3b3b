package delivery

import "github.com/redis/go-redis/v9"

// sizes is the key of how many bytes each letter has.
func (l *Letters) sizes() string { return l.base + ":index:sizes" }

// accounts are the functions of scripts that add letters, change or drop them:
// the sizes are a hash of a letter's ID to its bytes, and have the sum of all
// under "=", which is no ID. It is there so that what a write costs does not
// grow with how many letters wait.
//
// A letter's bytes are those of its fields' values: Redis takes a few hundred
// more for each.
const accounts = `
local function measure(letter)
	local n = 0
	for _, field in ipairs({'url', 'body', 'workflow_id', 'run_id', 'subscriber', 'reason', 'attempts', 'time', 'last'}) do
		n = n + redis.call('HSTRLEN', letter, field)
	end
	return n
end

-- resize notes that a letter is new or has changed.
local function resize(sizes, id, letter)
	local size = measure(letter)
	redis.call('HINCRBY', sizes, '=', size - (tonumber(redis.call('HGET', sizes, id)) or 0))
	redis.call('HSET', sizes, id, size)
end

-- forget drops a letter that has just left the index. Returns whether it had a
-- size.
local function forget(index, sizes, id)
	local size = redis.call('HGET', sizes, id)
	if redis.call('EXISTS', index) == 0 then
		redis.call('DEL', sizes)
	elseif size then
		redis.call('HINCRBY', sizes, '=', -size)
		redis.call('HDEL', sizes, id)
	end
	return size ~= false
end

-- recount makes the sizes anew where they are not of the letters in the index:
-- some were written, or dropped, by a program that knows no sizes, or by hand.
-- Of many without a size it measures the oldest, and leaves the others to the
-- next letters that are written.
local function recount(index, sizes, base)
	if redis.call('HLEN', sizes) == redis.call('ZCARD', index) + 1 then return end
	local ids, sized, total, measured = redis.call('ZRANGE', index, 0, -1), {}, 0, 0
	for first = 1, #ids, 500 do
		local some = {unpack(ids, first, math.min(first + 499, #ids))}
		local known = redis.call('HMGET', sizes, unpack(some))
		for i, id in ipairs(some) do
			local size = tonumber(known[i])
			if not size and measured < 500 then
				size, measured = measure(base .. id), measured + 1
			end
			if size then
				total = total + size
				table.insert(sized, id)
				table.insert(sized, size)
			end
		end
	end
	redis.call('DEL', sizes)
	for first = 1, #sized, 1000 do
		redis.call('HSET', sizes, unpack(sized, first, math.min(first + 999, #sized)))
	end
	redis.call('HSET', sizes, '=', total)
end
`

// script returns one that keeps the accounts.
func script(text string) *redis.Script { return redis.NewScript(accounts + text) }

var buryScript = script(`
-- KEYS: index, sizes, letter. ARGV: now, keep (both ms), most letters, most
-- bytes, ID, what keys of letters begin with, when it was written, then the
-- letter's other fields. Returns how many letters made room.
local index, sizes, letter = unpack(KEYS)
redis.call('HSET', letter, unpack(ARGV, 8))
redis.call('HSETNX', letter, 'time', ARGV[7])
redis.call('PEXPIRE', letter, ARGV[2])
redis.call('ZADD', index, ARGV[1], ARGV[5])
resize(sizes, ARGV[5], letter)
-- What is left of many that have expired goes with the next letters.
local expired = redis.call('ZRANGEBYSCORE', index, '-inf', string.format('%.0f', ARGV[1] - ARGV[2]), 'LIMIT', 0, 1000)
for _, id in ipairs(expired) do
	redis.call('ZREM', index, id)
	forget(index, sizes, id)
end
recount(index, sizes, ARGV[6])
local over = 0
local function full()
	local n = redis.call('ZCARD', index)
	-- One letter may be larger than all of them are to be.
	return n > tonumber(ARGV[3]) or n > 1 and tonumber(redis.call('HGET', sizes, '=')) > tonumber(ARGV[4])
end
while full() do
	local id = redis.call('ZPOPMIN', index)[1]
	-- Without a size it has come in the place of one that has gone without a word.
	if not forget(index, sizes, id) then recount(index, sizes, ARGV[6]) end
	over = over + redis.call('DEL', ARGV[6] .. id)
end
redis.call('PEXPIRE', index, ARGV[2])
redis.call('PEXPIRE', sizes, ARGV[2])
return over`)
