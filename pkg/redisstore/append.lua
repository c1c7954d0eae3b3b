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
--   It is read by an interpreter, once for each append. So globals are made
--   local, tables and functions are made where they are needed, numbers are
--   checked as text, and of the progress in one append only the last is put
--   into the hash. The benchmark (bench, scenario append) watches over it.

local ARGV, KEYS, redis, string, tonumber = ARGV, KEYS, redis, string, tonumber
local call, sub, match, find = redis.call, string.sub, string.match, string.find

local WIDTH, HEADER = 14, 18
local MAX_DIGITS = 14 -- up to it numbers are exact, and turn into text as digits
local MAX_STEPS = 100
local MAX_BODY, MAX_BODIES = 262144, 4194304 -- bytes
local MAX_STATE, MAX_STEP = 65536, 1000

local hash, stream, producers = KEYS[1], KEYS[2], KEYS[3]

-- ---------------------------------------------------------------- arguments

local argc = #ARGV
local count = (argc - HEADER) / WIDTH
if #KEYS ~= 3 or count < 1 or count % 1 ~= 0 then
  return {'INVALID', 'the number of keys or arguments is wrong'}
end
if stream ~= hash .. ':events' or producers ~= hash .. ':producers' or ARGV[1] ~= hash .. ':updates' then
  return {'INVALID', 'the keys or the channel are not of one workflow'}
end
if ARGV[2] ~= 'PUBLISH' and ARGV[2] ~= 'SPUBLISH' then
  return {'INVALID', 'the publish command is neither PUBLISH nor SPUBLISH'}
end
local rank = ' ' .. ARGV[14] .. ' ' .. ARGV[15] .. ' ' -- and the nonce: of the execution
-- Digits only and exact: the numbers stand in entries as they came.
if not find(ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. ARGV[5] .. ' ' .. ARGV[6] .. ' ' .. ARGV[7] .. ' ' .. ARGV[10] .. ' ' .. ARGV[13] .. rank,
    '^%d+ %d+ %d+ %d+ %d+ %d+ %d+ %d+ %d+ $')
  or #ARGV[3] > MAX_DIGITS or #ARGV[4] > MAX_DIGITS or #ARGV[5] > MAX_DIGITS or #ARGV[6] > MAX_DIGITS or #ARGV[7] > MAX_DIGITS
  or #ARGV[10] > MAX_DIGITS or #ARGV[13] > MAX_DIGITS or #ARGV[14] > MAX_DIGITS or #ARGV[15] > MAX_DIGITS then
  return {'INVALID', 'a number is not one'}
end
local epoch, ttlOpen, ttlClosed, maxlen = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local run, chain, runTime, provisional = ARGV[8], ARGV[9], tonumber(ARGV[10]), ARGV[11] == '1'
local producer, number, nonce = ARGV[12], tonumber(ARGV[13]), ARGV[16]
if epoch < 1 or ttlOpen < 1 or ttlClosed < 1 then
  return {'INVALID', 'epoch and expiries must be positive'}
end
if number > 0 and (producer == '' or not find(nonce, '^%S+$')) then
  return {'INVALID', 'a numbered append needs a producer and a nonce'}
end
rank = rank .. nonce

local bytes = 0
local extra -- fields of steps and outputs that are read, too
local asked
for at = HEADER + 1, argc, WIDTH do
  local kind, body, step = ARGV[at], ARGV[at + 1], ARGV[at + 4]
  if sub(body, 1, 2) ~= '{"' then
    return {'INVALID', 'an event has no type or no body'}
  end
  if #body > MAX_BODY then
    return {'INVALID', 'an event has more than 262144 bytes'}
  end
  bytes = bytes + #body
  if #step > MAX_STEP or #ARGV[at + 5] > MAX_STATE then
    return {'INVALID', 'a step has more than 1000 bytes, or its state more than 65536'}
  end
  if kind == 'step' or kind == 'output' then
    if not extra then extra, asked = {}, {} end
    local name = 'step.' .. step
    if kind == 'step' and not asked[name] then
      if step == '' or sub(ARGV[at + 5], 1, 2) ~= '{"' then
        return {'INVALID', 'a step event has no step or no state'}
      end
      asked[name] = true
      extra[#extra + 1] = name
    end
    name = 'output.' .. step
    if not asked[name] then
      asked[name] = true
      extra[#extra + 1] = name
    end
  elseif kind ~= 'progress' and kind ~= 'log' and kind ~= 'started' and kind ~= 'closed' then
    return {'INVALID', 'an event has no type or no body'}
  end
end
if bytes > MAX_BODIES then
  return {'INVALID', 'the events have more than 4194304 bytes'}
end

-- -------------------------------------------------------------------- state

-- h is the hash as it will be: false for a field that is not there, nil for
-- one that has not been read. Of progress that is what an event may take
-- away, so that HDEL is called only when needed.
local v = call('HMGET', hash, 'status', 'tags', 'closed_at', 'run_id', 'chain', 'epoch', 'seq', 'check',
  'run_time', 'percent', 'current', 'total', 'message', 'updated_at')
local h = {status = v[1], tags = v[2], closed_at = v[3], run_id = v[4], chain = v[5], epoch = v[6], seq = v[7],
  check = v[8], run_time = v[9], percent = v[10], current = v[11], total = v[12], message = v[13], updated_at = v[14]}
local before = v[14] or '' -- when the hash was last changed
if extra then
  local values = call('HMGET', hash, unpack(extra))
  for i = 1, #extra do h[extra[i]] = values[i] end
end

local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local exists = h.epoch and h.seq and h.check and true or false

-- A hash without a stream goes on: the stream was trimmed to nothing. Else the
-- stream's last entry must be the hash's last event, the very one, as two
-- histories may share a number. If it is not, one of the two was lost or put
-- back.
local fresh = not exists
if exists and last then
  local same = '{"epoch":' .. h.epoch .. ',"seq":' .. h.seq .. ',"check":"' .. h.check .. '",'
  fresh = last[1] ~= h.seq .. '-0' or sub(last[2][2] or '', 1, #same) ~= same
end

local whole = false -- whether all of the hash is in h
local function readAll()
  if whole then return end
  whole = true
  local all = call('HGETALL', hash)
  for i = 1, #all, 2 do
    if h[all[i]] == nil then h[all[i]] = all[i + 1] end
  end
end

-- -------------------------------------------------------- fence and producer

local entry = number > 0 and not fresh and call('HGET', producers, producer)
local lastNumber = 0
local taken, older = false, false
if entry then
  lastNumber = tonumber(match(entry, '^%d+'))
  -- Nearly always it is the same execution, and its next number.
  if not lastNumber or number <= lastNumber or nonce == 'done' or sub(entry, -#rank) ~= rank then
    local n, entrySeq, entryCheck, entryStarted, entryAttempt, entryNonce =
      match(entry, '^(%d+) (%d+) (%x+) (%d+) (%d+) (%S+) ?%a*$')
    if not n then
      return {'INVALID', 'the entry of the producer is broken'}
    end
    local started, attempt = tonumber(ARGV[14]), tonumber(ARGV[15])
    entryStarted, entryAttempt = tonumber(entryStarted), tonumber(entryAttempt)
    if started ~= entryStarted then
      taken, older = true, started < entryStarted
    elseif attempt ~= entryAttempt then
      taken, older = true, attempt < entryAttempt
    elseif nonce ~= entryNonce then
      -- Byte by byte, since < on strings follows the server's locale.
      taken, older = true, #nonce < #entryNonce
      for i = 1, math.min(#nonce, #entryNonce) do
        local x, y = string.byte(nonce, i), string.byte(entryNonce, i)
        if x ~= y then
          older = x < y
          break
        end
      end
    elseif number <= lastNumber then
      return {'DUPLICATE', h.epoch, entrySeq, entryCheck, '0', h.status or '', h.tags or '', '0'}
    end
  end
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

local leaving -- producers to be removed
if adopted and not fresh then
  leaving = {}
  for _, name in ipairs(call('HKEYS', producers)) do
    local of = match(name, '^[awq]/([^/]*)') or match(name, '^closed/([^/]*)')
    if of and of ~= run then leaving[#leaving + 1] = name end
  end
end
if number > 0 and not entry and not fresh then
  leaving = leaving or {}
  local free = tonumber(ARGV[7]) - call('HLEN', producers) + #leaving
  if free < 1 then
    -- Marks of those that have left go, a quarter of them at a time, so that
    -- looking through all is seldom; first those that wrote longest ago.
    local marks = {}
    local all = call('HGETALL', producers)
    for i = 1, #all, 2 do
      local at = match(all[i + 1], '^%d+ (%d+) %x+ %d+ %d+ %S+ done$')
      if at then marks[#marks + 1] = {all[i], tonumber(at)} end
    end
    if #marks == 0 then return {'PRODUCERS_FULL'} end
    table.sort(marks, function(a, b) return a[2] < b[2] end)
    for i = 1, math.ceil(#marks / 4) do leaving[#leaving + 1] = marks[i][1] end
  end
end

local lost = 0
if number > 0 and ARGV[17] ~= '1' then
  lost = number - 1
  if entry and not taken then lost = lost - lastNumber end
end

-- --------------------------------------------------------------------- fold

local changed, order = {}, {}

local function set(name, value)
  if value == '' then value = false end
  if h[name] == value then return end
  h[name] = value
  if not changed[name] then
    changed[name] = true
    order[#order + 1] = name
  end
end

local seq, check
if fresh then
  local avoid = {[h.epoch or ''] = true}
  if last then avoid[match(last[2][2] or '', '^{"epoch":(%d+),') or ''] = true end
  while avoid[epoch .. ''] do epoch = epoch + 1 end
  epoch, seq, check = epoch .. '', 0, '00000000'
  readAll()
  for name in pairs(h) do set(name, false) end
  set('v', '1')
  set('workflow_id', ARGV[18])
  set('first_seq', '1')
  set('epoch', epoch)
else
  epoch, seq, check = h.epoch, tonumber(h.seq), h.check
  if not last then set('first_seq', seq + 1 .. '') end
end

local begins = seq == 0 or run ~= (h.run_id or '') or chain ~= (h.chain or '')
if begins then
  local same = seq > 0 and (h.chain or '') == chain
  readAll()
  for name in pairs(h) do
    if name ~= 'v' and name ~= 'workflow_id' and name ~= 'first_seq' and name ~= 'epoch' and
      not (same and (name == 'started_at' or name == 'type' or name == 'tags')) then
      set(name, false)
    end
  end
  set('run_id', run)
  set('chain', chain)
  set('status', 'running')
  if not same then set('started_at', ARGV[HEADER + 3]) end
end

local function fieldsOf(prefix)
  readAll()
  local list = {}
  for name, value in pairs(h) do
    if value and sub(name, 1, #prefix) == prefix then list[#list + 1] = name end
  end
  return list
end

local function terminal(status)
  return status == 'completed' or status == 'failed' or status == 'canceled' or
    status == 'terminated' or status == 'timed_out' or status == 'unknown'
end

local function applyStep(status, step, state, at)
  local name = 'step.' .. step
  local current = h[name]
  if status == 'queued' and current then return end
  local first, place = seq .. '', true
  if current then
    first = match(current, '^{"first":(%d+)') or first
  else
    local steps = fieldsOf('step.')
    if #steps >= MAX_STEPS then
      set('steps_omitted', (tonumber(h.steps_omitted or '0') or 0) + 1 .. '')
      local oldest, oldestSeq
      for _, other in ipairs(steps) do
        local s, st = match(h[other], '^{"first":%d+,"seq":(%d+),"status":"([%a_]+)"')
        if s and terminal(st) and (not oldest or tonumber(s) < oldestSeq) then
          oldest, oldestSeq = other, tonumber(s)
        end
      end
      if oldest then set(oldest, false) else place = false end
    end
  end
  if place then
    set(name, '{"first":' .. first .. ',"seq":' .. seq .. ',' .. sub(state, 2))
  end
  if status == 'running' then
    set('step', step)
    if at ~= '' then set('attempt', at) end
  end
  if status ~= 'queued' and h.status == 'queued' then set('status', 'running') end
  local open = h['output.' .. step]
  if open and (terminal(status) or match(open, ' (%d+)$') ~= (at ~= '' and at or '0')) then
    set('output.' .. step, false)
  end
end

local function openOutput(step, at)
  local name = 'output.' .. step
  if at == '' then at = '0' end
  local open = h[name]
  if open and match(open, ' (%d+)$') == at then return end
  if not open and #fieldsOf('output.') >= MAX_STEPS then return end
  set(name, seq .. ' ' .. at)
end

-- latest is the last progress that is not yet in h; its step and attempt may
-- be those of earlier ones.
local latest, latestStep, latestAttempt
local function flush()
  set('percent', ARGV[latest + 6])
  set('current', ARGV[latest + 7])
  set('total', ARGV[latest + 8])
  set('message', ARGV[latest + 9])
  if latestStep then set('step', latestStep) end
  if latestAttempt then set('attempt', latestAttempt) end
  if h.status == 'queued' then set('status', 'running') end
  latest, latestStep, latestAttempt = nil, nil, nil
end

local sha1hex = redis.sha1hex
local entries, n, prefix = {}, 0, '{"epoch":' .. epoch .. ',"seq":'
for at = HEADER + 1, argc, WIDTH do
  local kind, step = ARGV[at], ARGV[at + 4]
  local tail = sub(ARGV[at + 1], 2)
  if lost > 0 and n == 0 then tail = '"lost":' .. lost .. ',' .. tail end
  seq, n = seq + 1, n + 1
  check = sub(sha1hex(check .. tail), 1, 8)
  entries[n] = prefix .. seq .. ',"check":"' .. check .. '",' .. tail
  if ARGV[at + 12] ~= '' then set('type', ARGV[at + 12]) end
  if ARGV[at + 13] ~= '' then set('tags', ARGV[at + 13]) end
  if kind == 'progress' then
    latest = at
    if step ~= '' then latestStep = step end
    if ARGV[at + 11] ~= '' then latestAttempt = ARGV[at + 11] end
  elseif kind == 'output' then
    openOutput(step, ARGV[at + 11])
  elseif kind ~= 'log' then
    if latest then flush() end
    local status = ARGV[at + 3]
    if kind == 'step' then
      applyStep(status, step, ARGV[at + 5], ARGV[at + 11])
    elseif kind == 'started' then
      if status ~= 'queued' or (begins and n == 1) then set('status', status) end
    else -- closed
      set('status', status)
      set('error', ARGV[at + 10])
      set('closed_at', ARGV[at + 2])
      for _, name in ipairs(fieldsOf('output.')) do set(name, false) end
    end
  end
end
if latest then flush() end
local now = ARGV[argc - WIDTH + 3]
set('updated_at', now)
set('seq', seq .. '')
set('check', check)
-- A note that a run was queued tells the time of its writer, not that of its
-- first task: keep the older time, so that the run's own start wins over it.
if not provisional and runTime > storedTime then storedTime = runTime end
if storedTime > 0 then set('run_time', storedTime .. '') end

-- Trimming takes whole nodes at a time, and expiries last long, so now and
-- then is often enough to look at them: each 64 events, and for expiries also
-- at the ends of runs and when the events' time has reached another minute.
local turn = math.floor(seq / 64) ~= math.floor((seq - n) / 64)
if turn and maxlen > 0 and seq > maxlen and last and not fresh then
  set('first_seq', match(call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1], '^%d+'))
end

local ttl = h.closed_at and ttlClosed or ttlOpen
local renew = fresh or not last or (number > 0 and not entry)
if not renew and (turn or begins or h.closed_at or ttl < 600000 or sub(before, 1, 16) ~= sub(now, 1, 16)) then
  local left = call('PTTL', hash)
  renew = left > ttl or left < ttl * 0.9
end

-- ------------------------------------------------------------------- writes

if fresh or begins then
  -- The order in which a new hash gets its fields: for people, what matters
  -- comes first. (A hash keeps the order while it is small.)
  local rest = order
  order = {'status', 'type', 'percent', 'current', 'total', 'step', 'message', 'error', 'attempt', 'tags',
    'started_at', 'updated_at', 'closed_at', 'workflow_id', 'run_id', 'chain', 'epoch', 'seq', 'check',
    'first_seq', 'steps_omitted', 'run_time', 'v'}
  local known = {}
  for _, name in ipairs(order) do known[name] = true end
  for _, name in ipairs(rest) do -- steps and outputs
    if not known[name] then order[#order + 1] = name end
  end
end
local write, gone, w = {'HSET', hash}, nil, 2
for i = 1, #order do
  local name = order[i]
  if changed[name] then
    local value = h[name]
    if value then
      write[w + 1], write[w + 2], w = name, value, w + 2
    elseif gone then
      gone[#gone + 1] = name
    else
      gone = {'HDEL', hash, name}
    end
  end
end

seq = seq - n
local function add(by, i)
  if i == n and maxlen > 0 then
    return by('XADD', stream, 'MAXLEN', '~', ARGV[6], seq + i .. '-0', 'e', entries[i])
  end
  return by('XADD', stream, seq + i .. '-0', 'e', entries[i])
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
local pcall = redis.pcall
if fresh then
  call(unpack(write))
  call('DEL', stream, producers)
  add(call, 1)
else
  local answer = add(pcall, 1)
  if type(answer) == 'table' and answer.err then
    if not find(answer.err, 'equal or smaller', 1, true) then return answer end
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
for i = 2, n do add(call, i) end
if gone then call(unpack(gone)) end
if leaving then
  for i = 1, #leaving, 1000 do
    call('HDEL', producers, unpack(leaving, i, math.min(i + 999, #leaving)))
  end
end
if number > 0 then
  call('HSET', producers, producer, number + count - 1 .. ' ' .. h.seq .. ' ' .. check .. rank)
end
if renew then
  local ms = ttl .. ''
  call('PEXPIRE', hash, ms)
  call('PEXPIRE', stream, ms)
  call('PEXPIRE', producers, ms)
end
local failed, publish, channel = 0, ARGV[2], ARGV[1]
for i = 1, n do
  local answer = pcall(publish, channel, entries[i])
  if type(answer) == 'table' and answer.err then failed = failed + 1 end
end
return {'OK', epoch, h.seq, check, lost .. '', h.status or '', h.tags or '', failed .. ''}
