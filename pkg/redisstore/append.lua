-- append.lua: appends events of one workflow. Version 1 of the contract;
-- docs/wire-contract.md explains the words, this comment is the reference.
--
-- KEYS  1 hash       workflow:{ID}            the snapshot
--       2 stream     workflow:{ID}:events     the events
--       3 producers  workflow:{ID}:producers  who wrote last, and what
--
-- ARGV  1 channel    workflow:{ID}:updates
--       2 publish    PUBLISH, or SPUBLISH on a cluster
--       3 epoch      candidate for a new stream: the writer's Unix ms
--       4 ttl        ms that the keys live while the chain is open
--       5 ttl closed ms that they live once it is closed
--       6 maxlen     the stream is trimmed with MAXLEN ~; 0: never
--       7 producers  the most producers that the workflow may have
--       8 run        run ID of all the events; '' outside Temporal
--       9 chain      chain of all the events
--      10 run time   Unix ms of the run's first live task; 0: not known
--      11 provisional '1': only a note that the run was queued; else ''
--      12 producer   name, without spaces; '' when number is 0
--      13 number     of the first event among its producer's; 0: unnumbered
--      14 started    Unix ms of the producer's execution; 0 if it has none
--      15 attempt    of the producer's execution; 0 if it has none
--      16 nonce      of the producer's execution; '-' if it has none
--      17 sparse     '1': numbers may jump without loss; else ''
--      18 workflow   the ID as it is, not encoded
--      then 14 for every event, absent ones '':
--         1 type  2 body  3 time  4 status  5 step  6 state  7 percent
--         8 current  9 total  10 message  11 error  12 attempt
--        13 workflow type  14 tags (JSON array)
--      body is the event's JSON without epoch, seq, check and lost; state is
--      the step's JSON, from "status" on; both begin with '{"'. A body has
--      262144 bytes at most, all bodies together 4194304, a state 65536, a
--      step 1000.
--
-- Answer: a list of strings, its first the code.
--   OK, DUPLICATE   epoch, seq, check (of the last event), lost, status and
--                   tags of the workflow, number of publishes that failed.
--                   DUPLICATE: the number was seen before; the position is
--                   that of the producer's last event
--   SUPERSEDED      a newer run or execution has taken over; final
--   CLOSED          the chain has ended; final
--   REOPENED        the run is a new one of a closed chain (a reset): send
--                   it again with its run ID as its chain
--   UNKNOWN_RUN     not the current run, and nothing says that it is newer
--   PRODUCERS_FULL  too many producers
--   INVALID         the arguments are wrong: why
-- Nothing but OK has written anything.
--
-- Reasons for what looks odd:
--   No cjson: Redis and embedded servers encode differently, so the writer
--   sends every field that the fold needs beside the body. No shebang: an
--   embedded server refuses it.
--   Everything is read and checked before the first write, and that is one
--   which the server itself may still refuse with nothing written: out of
--   memory, no permission, an ID that is not above the stream's top. It is
--   the first XADD, or for a new stream an HSET, since only DEL makes room
--   for its XADD. Once something is written, a script is not refused memory.
--   Publishing comes last and by pcall: a message is only a wake-up.

local WIDTH, HEADER = 14, 18
local MAX = 1e14 -- below it numbers are exact, and turn into text as digits
local MAX_STEPS = 100
local MAX_BODY, MAX_BODIES = 262144, 4194304 -- bytes
local MAX_STATE, MAX_STEP = 65536, 1000
local FIRST_CHECK = '00000000'
local TERMINAL = {completed = true, failed = true, canceled = true,
  terminated = true, timed_out = true, unknown = true}
local TYPES = {started = true, progress = true, step = true, log = true,
  output = true, closed = true}
-- The order in which a new hash gets its fields: for people, what matters
-- comes first. (A hash keeps the order while it is small.)
local FIELDS = {'status', 'type', 'percent', 'current', 'total', 'step',
  'message', 'error', 'attempt', 'tags', 'started_at', 'updated_at',
  'closed_at', 'workflow_id', 'run_id', 'chain', 'epoch', 'seq', 'check',
  'first_seq', 'steps_omitted', 'run_time', 'v'}

local hash, stream, producers = KEYS[1], KEYS[2], KEYS[3]

local call, sub, sha1hex = redis.call, string.sub, redis.sha1hex

local function text(n) return string.format('%.0f', n) end

-- ---------------------------------------------------------------- arguments

local count = (#ARGV - HEADER) / WIDTH
if #KEYS ~= 3 or count < 1 or count ~= math.floor(count) then
  return {'INVALID', 'the number of keys or arguments is wrong'}
end
if stream ~= hash .. ':events' or producers ~= hash .. ':producers' or ARGV[1] ~= hash .. ':updates' then
  return {'INVALID', 'the keys or the channel are not of one workflow'}
end
if ARGV[2] ~= 'PUBLISH' and ARGV[2] ~= 'SPUBLISH' then
  return {'INVALID', 'the publish command is neither PUBLISH nor SPUBLISH'}
end
local epoch, ttlOpen, ttlClosed = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local maxlen, most = tonumber(ARGV[6]), tonumber(ARGV[7])
local run, chain, runTime, provisional = ARGV[8], ARGV[9], tonumber(ARGV[10]), ARGV[11] == '1'
local producer, number = ARGV[12], tonumber(ARGV[13])
local started, attempt, nonce, sparse = tonumber(ARGV[14]), tonumber(ARGV[15]), ARGV[16], ARGV[17] == '1'
-- Digits only and exact: the numbers stand in entries as they came.
if not (epoch and ttlOpen and ttlClosed and maxlen and most and runTime and number and started and attempt)
  or string.find(ARGV[3] .. ARGV[4] .. ARGV[5] .. ARGV[6] .. ARGV[7] .. ARGV[10] .. ARGV[13] .. ARGV[14] .. ARGV[15], '%D')
  or math.max(epoch, ttlOpen, ttlClosed, maxlen, most, runTime, number, started, attempt) >= MAX then
  return {'INVALID', 'a number is not one'}
end
if epoch < 1 or ttlOpen < 1 or ttlClosed < 1 then
  return {'INVALID', 'epoch and expiries must be positive'}
end
if number > 0 and (producer == '' or not string.find(nonce, '^%S+$')) then
  return {'INVALID', 'a numbered append needs a producer and a nonce'}
end

-- -------------------------------------------------------------------- state

-- h is the hash as it will be: false for a field that is not there, nil for
-- one that has not been read.
local names = {'status', 'tags', 'closed_at', 'run_id', 'chain', 'epoch', 'seq', 'check', 'run_time'}
local h = {}
local bytes = 0
for at = HEADER + 1, #ARGV, WIDTH do
  local kind, step = ARGV[at], ARGV[at + 4]
  if not TYPES[kind] or sub(ARGV[at + 1], 1, 2) ~= '{"' then
    return {'INVALID', 'an event has no type or no body'}
  end
  if #ARGV[at + 1] > MAX_BODY then
    return {'INVALID', 'an event has more than 262144 bytes'}
  end
  bytes = bytes + #ARGV[at + 1]
  if #step > MAX_STEP or #ARGV[at + 5] > MAX_STATE then
    return {'INVALID', 'a step has more than 1000 bytes, or its state more than 65536'}
  end
  if kind == 'progress' and not h.percent then
    -- Those that an event may take away, so that HDEL is called when needed.
    for _, name in ipairs({'percent', 'current', 'total', 'message'}) do
      h[name] = true
      names[#names + 1] = name
    end
  end
  if kind == 'step' or kind == 'output' then
    if kind == 'step' and not h['step.' .. step] then
      if step == '' or sub(ARGV[at + 5], 1, 2) ~= '{"' then
        return {'INVALID', 'a step event has no step or no state'}
      end
      h['step.' .. step] = true
      names[#names + 1] = 'step.' .. step
    end
    if not h['output.' .. step] then
      h['output.' .. step] = true
      names[#names + 1] = 'output.' .. step
    end
  end
end
if bytes > MAX_BODIES then
  return {'INVALID', 'the events have more than 4194304 bytes'}
end
local values = call('HMGET', hash, unpack(names))
for i, name in ipairs(names) do h[name] = values[i] end

local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local exists = h.epoch and h.seq and h.check and true or false
local whole = false -- whether all of the hash is in h

local function readAll()
  if whole then return end
  whole = true
  local all = call('HGETALL', hash)
  for i = 1, #all, 2 do
    if h[all[i]] == nil then h[all[i]] = all[i + 1] end
  end
end

-- The stream's last entry is the hash's last event, the very one: two
-- histories may share a number.
local function agree()
  local head = '{"epoch":' .. h.epoch .. ',"seq":' .. h.seq .. ',"check":"' .. h.check .. '",'
  return last[1] == h.seq .. '-0' and sub(last[2][2] or '', 1, #head) == head
end

-- A hash without a stream goes on: the stream was trimmed to nothing. Any
-- other disagreement means that one of the two was lost or put back.
local fresh = not exists or (last and not agree())

-- -------------------------------------------------------- fence and producer

local entry = number > 0 and not fresh and call('HGET', producers, producer)
local lastNumber, entrySeq, entryCheck, entryStarted, entryAttempt, entryNonce
if entry then
  lastNumber, entrySeq, entryCheck, entryStarted, entryAttempt, entryNonce =
    string.match(entry, '^(%d+) (%d+) (%x+) (%d+) (%d+) (%S+) ?%a*$')
  if not lastNumber then
    return {'INVALID', 'the entry of the producer is broken'}
  end
  lastNumber, entryStarted, entryAttempt = tonumber(lastNumber), tonumber(entryStarted), tonumber(entryAttempt)
end

-- Byte by byte, since < on strings follows the server's locale.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local taken, older = false, false
if entry and (started ~= entryStarted or attempt ~= entryAttempt or nonce ~= entryNonce) then
  taken = true
  if started ~= entryStarted then
    older = started < entryStarted
  elseif attempt ~= entryAttempt then
    older = attempt < entryAttempt
  else
    older = less(nonce, entryNonce)
  end
end

if entry and not taken and number <= lastNumber then
  return {'DUPLICATE', h.epoch, entrySeq, entryCheck, '0', h.status or '', h.tags or '', '0'}
end

local storedRun, storedTime = h.run_id or '', tonumber(h.run_time or '0') or 0
local adopted = exists and run ~= storedRun
if not exists then
  if run ~= '' and runTime == 0 and not provisional then return {'UNKNOWN_RUN'} end
elseif not adopted then
  if h.closed_at then return {'CLOSED'} end
  if chain ~= (h.chain or '') then
    if h.chain == run then return {'REOPENED'} end
    return {'INVALID', 'the chain is not that of the run'}
  end
elseif run == '' then
  return {'INVALID', 'the workflow has runs, the event names none'}
elseif provisional then
  if runTime < storedTime then return {'SUPERSEDED'} end
  if not h.closed_at and storedRun ~= '' then return {'UNKNOWN_RUN'} end
elseif runTime == 0 then
  return {'UNKNOWN_RUN'}
elseif runTime <= storedTime then
  return {'SUPERSEDED'}
elseif h.closed_at and chain == (h.chain or '') then
  return {'REOPENED'}
end
if older then return {'SUPERSEDED'} end

local leaving = {} -- producers to be removed
if adopted and not fresh then
  for _, name in ipairs(call('HKEYS', producers)) do
    local of = string.match(name, '^[awq]/([^/]*)') or string.match(name, '^closed/([^/]*)')
    if of and of ~= run then leaving[#leaving + 1] = name end
  end
end
if number > 0 and not entry and not fresh then
  local free = most - call('HLEN', producers) + #leaving
  if free < 1 then
    -- Marks of those that have left go, a quarter of them at a time, so that
    -- looking through all is seldom; first those that wrote longest ago.
    local marks = {}
    local all = call('HGETALL', producers)
    for i = 1, #all, 2 do
      local at = string.match(all[i + 1], '^%d+ (%d+) %x+ %d+ %d+ %S+ done$')
      if at then marks[#marks + 1] = {all[i], tonumber(at)} end
    end
    if #marks == 0 then return {'PRODUCERS_FULL'} end
    table.sort(marks, function(a, b) return a[2] < b[2] end)
    for i = 1, math.ceil(#marks / 4) do leaving[#leaving + 1] = marks[i][1] end
  end
end

local lost = 0
if number > 0 and not sparse then
  lost = number - 1
  if entry and not taken then lost = lost - lastNumber end
end

-- --------------------------------------------------------------------- fold

local changed = {}

local function set(name, value)
  if value == '' then value = false end
  if h[name] == value then return end
  h[name] = value
  changed[name] = true
end

local seq, check
if fresh then
  local avoid = {[h.epoch or ''] = true}
  if last then avoid[string.match(last[2][2] or '', '^{"epoch":(%d+),') or ''] = true end
  while avoid[text(epoch)] do epoch = epoch + 1 end
  epoch, seq, check = text(epoch), 0, FIRST_CHECK
  readAll()
  for name in pairs(h) do set(name, false) end
  set('v', '1')
  set('workflow_id', ARGV[18])
  set('first_seq', '1')
else
  epoch, seq, check = h.epoch, tonumber(h.seq), h.check
  if not last then set('first_seq', text(seq + 1)) end
end

local KEPT = {v = true, workflow_id = true, first_seq = true}
local KEPT_IN_CHAIN = {started_at = true, type = true, tags = true}

local function beginRun(time)
  local same = seq > 1 and (h.chain or '') == chain
  readAll()
  for name in pairs(h) do
    if not KEPT[name] and not (same and KEPT_IN_CHAIN[name]) then set(name, false) end
  end
  set('run_id', run)
  set('chain', chain)
  set('status', 'running')
  if not same then set('started_at', time) end
end

local function fieldsOf(prefix)
  readAll()
  local list = {}
  for name, value in pairs(h) do
    if value and sub(name, 1, #prefix) == prefix then list[#list + 1] = name end
  end
  return list
end

local function applyStep(status, step, state, at)
  local name = 'step.' .. step
  local current = h[name]
  if status == 'queued' and current then return end
  local first, place = text(seq), true
  if current then
    first = string.match(current, '^{"first":(%d+)') or first
  else
    local steps = fieldsOf('step.')
    if #steps >= MAX_STEPS then
      set('steps_omitted', text((tonumber(h.steps_omitted or '0') or 0) + 1))
      local oldest, oldestSeq
      for _, other in ipairs(steps) do
        local s, st = string.match(h[other], '^{"first":%d+,"seq":(%d+),"status":"([%a_]+)"')
        if s and TERMINAL[st] and (not oldest or tonumber(s) < oldestSeq) then
          oldest, oldestSeq = other, tonumber(s)
        end
      end
      if oldest then set(oldest, false) else place = false end
    end
  end
  if place then
    set(name, '{"first":' .. first .. ',"seq":' .. text(seq) .. ',' .. sub(state, 2))
  end
  if status == 'running' then
    set('step', step)
    if at ~= '' then set('attempt', at) end
  end
  if status ~= 'queued' and h.status == 'queued' then set('status', 'running') end
  local open = h['output.' .. step]
  if open and (TERMINAL[status] or string.match(open, ' (%d+)$') ~= (at ~= '' and at or '0')) then
    set('output.' .. step, false)
  end
end

local function openOutput(step, at)
  local name = 'output.' .. step
  if at == '' then at = '0' end
  local open = h[name]
  if open and string.match(open, ' (%d+)$') == at then return end
  if not open and #fieldsOf('output.') >= MAX_STEPS then return end
  set(name, text(seq) .. ' ' .. at)
end

local entries, head = {}, '{"epoch":' .. epoch .. ',"seq":'
for at = HEADER + 1, #ARGV, WIDTH do
  local kind, time, status, step = ARGV[at], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local tail = sub(ARGV[at + 1], 2)
  if lost > 0 and #entries == 0 then tail = '"lost":' .. text(lost) .. ',' .. tail end
  seq = seq + 1
  check = sub(sha1hex(check .. tail), 1, 8)
  entries[#entries + 1] = head .. seq .. ',"check":"' .. check .. '",' .. tail

  local begins = seq == 1 or run ~= (h.run_id or '') or chain ~= (h.chain or '')
  if begins then beginRun(time) end
  set('updated_at', time)
  if ARGV[at + 12] ~= '' then set('type', ARGV[at + 12]) end
  if ARGV[at + 13] ~= '' then set('tags', ARGV[at + 13]) end
  if kind == 'started' then
    if status ~= 'queued' or begins then set('status', status) end
  elseif kind == 'progress' then
    set('percent', ARGV[at + 6])
    set('current', ARGV[at + 7])
    set('total', ARGV[at + 8])
    set('message', ARGV[at + 9])
    if step ~= '' then set('step', step) end
    if ARGV[at + 11] ~= '' then set('attempt', ARGV[at + 11]) end
    if h.status == 'queued' then set('status', 'running') end
  elseif kind == 'step' then
    applyStep(status, step, ARGV[at + 5], ARGV[at + 11])
  elseif kind == 'output' then
    openOutput(step, ARGV[at + 11])
  elseif kind == 'closed' then
    set('status', status)
    set('error', ARGV[at + 10])
    set('closed_at', time)
    for _, name in ipairs(fieldsOf('output.')) do set(name, false) end
  end
end
set('epoch', epoch)
set('seq', text(seq))
set('check', check)
-- A note that a run was queued tells the time of its writer, not that of its
-- first task: keep the older time, so that the run's own start wins over it.
if not provisional and runTime > storedTime then storedTime = runTime end
set('run_time', storedTime > 0 and text(storedTime))

-- The trim takes whole nodes at a time, so now and then is often enough.
if maxlen > 0 and seq > maxlen and last and not fresh and
  math.floor(seq / 64) ~= math.floor((seq - #entries) / 64) then
  set('first_seq', string.match(call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1], '^%d+'))
end

local ttl = h.closed_at and ttlClosed or ttlOpen
local renew = fresh or not last or (number > 0 and not entry)
if not renew then
  local left = call('PTTL', hash)
  renew = left > ttl or left < ttl * 0.9
end

-- ------------------------------------------------------------------- writes

local write, gone = {'HSET', hash}, {'HDEL', hash}
local function put(name)
  if h[name] then
    write[#write + 1] = name
    write[#write + 1] = h[name]
  else
    gone[#gone + 1] = name
  end
end
for _, name in ipairs(FIELDS) do
  if changed[name] then
    put(name)
    changed[name] = nil
  end
end
for name in pairs(changed) do put(name) end -- steps and outputs

seq = seq - #entries
local function add(by, i)
  if i == #entries and maxlen > 0 then
    return by('XADD', stream, 'MAXLEN', '~', ARGV[6], (seq + i) .. '-0', 'e', entries[i])
  end
  return by('XADD', stream, (seq + i) .. '-0', 'e', entries[i])
end

-- A user who may do only half of it writes nothing. Asked of new producers
-- only, since it takes time; servers before Redis 7 cannot tell.
if (fresh or (number > 0 and not entry)) and redis.acl_check_cmd then
  for _, need in ipairs({{'XADD', stream, '*', 'e', ''}, {'HSET', hash, 'v', '1'}, {'HDEL', hash, 'v'},
    {'DEL', stream}, {'HSET', producers, 'p', '1'}, {'HDEL', producers, 'p'}, {'PEXPIRE', hash, '1'}}) do
    if not redis.acl_check_cmd(unpack(need)) then
      return redis.error_reply('NOPERM this user may not ' .. need[1] .. ' ' .. need[2] .. ', which an append needs; nothing was written')
    end
  end
end
if fresh then
  call(unpack(write))
  call('DEL', stream, producers)
  add(call, 1)
else
  local answer = add(redis.pcall, 1)
  if type(answer) == 'table' and answer.err then
    if not string.find(answer.err, 'equal or smaller', 1, true) then return answer end
    -- Later entries were there and were taken away by hand: the stream still
    -- counts from them. What it holds is right, so it goes into a new one.
    local held = call('XRANGE', stream, '-', '+')
    call('DEL', stream)
    for _, old in ipairs(held) do call('XADD', stream, old[1], unpack(old[2])) end
    add(call, 1)
    renew = true
  end
  call(unpack(write))
end
for i = 2, #entries do add(call, i) end
if #gone > 2 then call(unpack(gone)) end
for i = 1, #leaving, 1000 do
  call('HDEL', producers, unpack(leaving, i, math.min(i + 999, #leaving)))
end
if number > 0 then
  call('HSET', producers, producer, text(number + count - 1) .. ' ' .. h.seq .. ' ' .. check .. ' ' ..
    ARGV[14] .. ' ' .. ARGV[15] .. ' ' .. nonce)
end
if renew then
  local ms = text(ttl)
  call('PEXPIRE', hash, ms)
  call('PEXPIRE', stream, ms)
  call('PEXPIRE', producers, ms)
end
local failed, pcallRedis, publish, channel = 0, redis.pcall, ARGV[2], ARGV[1]
for _, json in ipairs(entries) do
  local answer = pcallRedis(publish, channel, json)
  if type(answer) == 'table' and answer.err then failed = failed + 1 end
end
return {'OK', epoch, h.seq, check, text(lost), h.status or '', h.tags or '', text(failed)}
