-- append.lua: appends events of one workflow. Version 1 of the contract;
-- docs/wire-contract.md explains the words, this comment is the reference.
--
-- KEYS  1 hash       workflow:{ID}            the snapshot
--       2 stream     workflow:{ID}:events     the events
--       3 producers  workflow:{ID}:producers  who wrote last, and what
--
-- ARGV  1 options    13 words, one space between them:
--         publish      PUBLISH, or SPUBLISH on a cluster; on workflow:{ID}:updates
--         epoch        candidate for a new stream: the writer's Unix ms
--         ttl          ms that the keys live while the chain is open
--         ttl closed   ms that they live once it is closed
--         maxlen       the stream is trimmed with MAXLEN ~; 0: never
--         producers    the most producers that the workflow may have
--         run time     Unix ms of the run's first live task; 0: not known
--         provisional  1: only a note that the run was queued; else 0
--         number       of the first event among its producer's; 0: unnumbered
--         started      Unix ms of the producer's execution; 0 if it has none
--         attempt      of the producer's execution; 0 if it has none
--         nonce        of the producer's execution; '-' if it has none
--         sparse       1: numbers may jump without loss; else 0
--       2 producer   name, without spaces; '' when number is 0
--       3 run        run ID of all the events; '' outside Temporal
--       4 chain      chain of all the events
--       5 workflow   the ID as it is, not encoded
--      then for every event its head, its tail, and its texts:
--       head         8 words, one space between them, '-' where there is none:
--         type texts attempt time status percent current total
--         texts is a letter for each text that follows the tail, in this order:
--         s step, j state, m message, e error, w workflow type, t tags
--       tail         the event's JSON without epoch, seq, check and lost, and
--         without its first brace, since those come in front
--      The fold needs of a progress s and m, of a step s and j, of an output s,
--      of a closed e, of each w and t, where it has them; others may be left
--      out. State is the step's JSON, from "status" on, tags a JSON array. A
--      tail begins with '"', a state with '{"'. The JSON of an event (its tail
--      and the brace) has 262144 bytes at most, of all events together 4194304,
--      a state 65536, a step 1000.
--
-- Answer: a list of strings, its first the code.
--   OK, DUPLICATE   epoch, seq, check (of the last event), lost, status and
--                   tags of the workflow, number of publishes that failed.
--                   DUPLICATE: the number was seen before; the position is
--                   that of the producer's last event
--   SUPERSEDED      a newer run or execution has taken over, or a note that a
--                   run was queued comes after the run's own events; final
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
--   It is read by an interpreter, once for each append, which goes through
--   every byte of each text that it makes. So arguments are few, long texts are
--   not cut, globals are made local, numbers stay text where they can, and what
--   logs and progress of a run that goes on do not need (tables, functions,
--   fields of the hash) is made in the one block that the others go through.
--   The benchmark (bench, scenario append) watches over it.

local ARGV, KEYS, redis, string, tonumber, type = ARGV, KEYS, redis, string, tonumber, type
local call, pcall, sub, match, find = redis.call, redis.pcall, string.sub, string.match, string.find

local FIRST = 6 -- the argument where the events begin
local MAX_DIGITS = 14 -- up to it numbers are exact, and turn into text as digits
local MAX_STEPS = 100
local MAX_BODY, MAX_BODIES = 262144, 4194304 -- bytes
local MAX_STATE, MAX_STEP = 65536, 1000
local HEAD = '^(%l+) ([%l-]+) ([%d-]+) ()' -- and the place of the rest, which not all need
local REST = '^(%S+) (%S+) (%S+) (%S+) (%S+)$'

local hash, stream, producers = KEYS[1], KEYS[2], KEYS[3]

-- ------------------------------------------------------------------ options

local argc = #ARGV
if #KEYS ~= 3 or argc < FIRST + 1 then
  return {'INVALID', 'the number of keys or arguments is wrong'}
end
if stream ~= hash .. ':events' or producers ~= hash .. ':producers' then
  return {'INVALID', 'the keys are not of one workflow'}
end
local publish, candidate, ttlOpen, ttlClosed, maxlen, maxProducers, runTime, provisional, number, rank, started, attempt, nonce, sparse =
  match(ARGV[1], '^(S?PUBLISH) ([1-9]%d*) ([1-9]%d*) ([1-9]%d*) (%d+) (%d+) (%d+) ([01]) (%d+) ((%d+) (%d+) (%S+)) ([01])$')
if not publish then
  return {'INVALID', 'the options are not the 13 words that they should be'}
end
-- Exact: the numbers stand in entries as they came.
if #candidate > MAX_DIGITS or #ttlOpen > MAX_DIGITS or #ttlClosed > MAX_DIGITS or #maxlen > MAX_DIGITS or #maxProducers > MAX_DIGITS
  or #runTime > MAX_DIGITS or #number > MAX_DIGITS or #started > MAX_DIGITS or #attempt > MAX_DIGITS then
  return {'INVALID', 'a number has too many digits'}
end
local producer, run, chain = ARGV[2], ARGV[3], ARGV[4]
local trim = tonumber(maxlen) > 0
number = tonumber(number)
if number > 0 and producer == '' then
  return {'INVALID', 'a numbered append needs a producer'}
end

-- -------------------------------------------------------------------- state

-- Of progress what an event may take away, so that HDEL is called only when
-- needed.
local v = call('HMGET', hash, 'status', 'percent', 'current', 'total', 'message', 'tags', 'updated_at',
  'run_id', 'chain', 'epoch', 'seq', 'check', 'run_time')
local status, tags, epoch, before, check = v[1], v[6], v[10], v[11], v[12]
local closedAt = status and status ~= 'running' and status ~= 'queued' and call('HGET', hash, 'closed_at')
local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]

-- A hash without a stream goes on: the stream was trimmed to nothing. Else the
-- stream's last entry must be the hash's last event, the very one, as two
-- histories may share a number. If it is not, one of the two was lost or put
-- back.
local exists = epoch and before and check and true or false
local fresh = not exists
local prefix = exists and '{"epoch":' .. epoch .. ',"seq":'
if exists and last then
  fresh = last[1] ~= before .. '-0' or find(last[2][2] or '', prefix .. before .. ',"check":"' .. check .. '",', 1, true) ~= 1
end

-- -------------------------------------------------------- fence and producer

local entry = number > 0 and not fresh and call('HGET', producers, producer)
local lastNumber = 0
local taken, older = false, false
if entry then
  lastNumber = tonumber(match(entry, '^%d+') or '')
  -- Nearly always it is the same execution, and its next number.
  if not lastNumber or number <= lastNumber or nonce == 'done' or sub(entry, -#rank - 1) ~= ' ' .. rank then
    local found, entrySeq, entryCheck, entryStarted, entryAttempt, entryNonce =
      match(entry, '^(%d+) (%d+) (%x+) (%d+) (%d+) (%S+) ?%a*$')
    if not found then
      return {'INVALID', 'the entry of the producer is broken'}
    end
    started, attempt = tonumber(started), tonumber(attempt)
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
      return {'DUPLICATE', epoch, entrySeq, entryCheck, '0', status or '', tags or '', '0'}
    end
  end
end

local storedRun, storedChain, storedTime = v[8] or '', v[9] or '', v[13] or '0'
local adopted = exists and run ~= storedRun
if not exists then
  if run ~= '' and tonumber(runTime) == 0 and provisional == '0' then return {'UNKNOWN_RUN'} end
elseif not adopted then
  if closedAt then return {'CLOSED'} end
  -- The run is known already, so the note that it was queued is out of date.
  if provisional == '1' then return {'SUPERSEDED'} end
  if chain ~= storedChain then
    if storedChain == run then return {'REOPENED'} end
    return {'INVALID', 'the chain is not that of the run'}
  end
elseif run == '' then
  return {'INVALID', 'the workflow has runs, the event names none'}
else
  local time, stored = tonumber(runTime), tonumber(storedTime) or 0
  if provisional == '1' then
    if time < stored then return {'SUPERSEDED'} end
    if not closedAt and storedRun ~= '' then return {'UNKNOWN_RUN'} end
  elseif time == 0 then
    return {'UNKNOWN_RUN'}
  elseif time <= stored then
    return {'SUPERSEDED'}
  elseif closedAt and chain == storedChain then
    return {'REOPENED'}
  end
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
  local free = tonumber(maxProducers) - call('HLEN', producers) + #leaving
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
if number > 0 and sparse == '0' then
  lost = number - 1
  if entry and not taken then lost = lost - lastNumber end
end

-- ------------------------------------------------------------------- events

if fresh then
  local avoid = {[epoch or ''] = true}
  if last then avoid[match(last[2][2] or '', '^{"epoch":(%d+),') or ''] = true end
  candidate = tonumber(candidate)
  while avoid[candidate .. ''] do candidate = candidate + 1 end
  epoch, before, check = candidate .. '', '0', '00000000'
  prefix = '{"epoch":' .. epoch .. ',"seq":'
end
local begins = fresh or run ~= storedRun or chain ~= storedChain
local base = tonumber(before) -- seq of the last event before these

local full = begins -- whether these events need more than what is done here
local n, bytes, at = 0, 0, FIRST
local seq, head, rest -- of the last event
local progress, progressRest, message, step, attemptNow -- progress is the place of the last one's head
local openStep, openAttempt -- of the last output
local sha1hex = redis.sha1hex
local entries, ids = {}, {}
repeat
  local tail = ARGV[at + 1]
  local kind, texts, try, place = match(ARGV[at], HEAD)
  if not kind or not tail or sub(tail, 1, 1) ~= '"' then
    return {'INVALID', 'an event has no head of 8 words, or no tail'}
  end
  bytes = bytes + #tail + 1
  if #tail >= MAX_BODY then
    return {'INVALID', 'an event has more than 262144 bytes'}
  end
  if bytes > MAX_BODIES then
    return {'INVALID', 'the events have more than 4194304 bytes'}
  end
  head, rest = at, place
  local text = at + 2
  at = text
  local of, json -- the event's step, and its state
  if texts ~= '-' then
    at = at + #texts
    if at > argc + 1 then
      return {'INVALID', 'the number of keys or arguments is wrong'}
    end
    if texts ~= 'm' then
      local s, j, w = match(texts, '^(s?)(j?)m?e?(w?t?)$')
      if not s then
        return {'INVALID', 'the texts of an event are not some of sjmewt in this order'}
      end
      if s == 's' then
        of, text = ARGV[text], text + 1
        if #of > MAX_STEP then
          return {'INVALID', 'a step has more than 1000 bytes'}
        end
      end
      if j == 'j' then
        json, text = ARGV[text], text + 1
        if #json > MAX_STATE then
          return {'INVALID', 'the state of a step has more than 65536 bytes'}
        end
      end
      if w ~= '' then full = true end
    end
  end
  if kind == 'progress' then
    progress, progressRest = head, rest
    message = (texts == 'm' or find(texts, 'm', 1, true)) and ARGV[text] or ''
    if of and of ~= '' then step = of end
    if try ~= '-' then attemptNow = try end
  elseif kind == 'step' then
    if not of or of == '' or not json or sub(json, 1, 2) ~= '{"' then
      return {'INVALID', 'a step event has no step or no state'}
    end
    full = true
    local _, state = match(ARGV[head], REST, rest)
    if state == 'running' then
      step = of
      if try ~= '-' then attemptNow = try end
    end
  elseif kind == 'output' then
    -- Nearly always it goes on with the open one.
    of = of or ''
    if not full and (of ~= openStep or try ~= openAttempt) then
      openStep, openAttempt = of, try
      local open = call('HGET', hash, 'output.' .. of)
      full = not open or match(open, ' (%d+)$') ~= (try == '-' and '0' or try)
    end
  elseif kind == 'started' or kind == 'closed' then
    full = true
  elseif kind ~= 'log' then
    return {'INVALID', 'an event has a type that is none'}
  end

  n = n + 1
  if lost > 0 and n == 1 then tail = '"lost":' .. lost .. ',' .. tail end
  seq = base + n .. ''
  check = sub(sha1hex(check .. tail), 1, 8)
  ids[n], entries[n] = seq .. '-0', prefix .. seq .. ',"check":"' .. check .. '",' .. tail
until at > argc
local now, _, percent, current, total = match(ARGV[head], REST, rest)
if progress and progress ~= head then
  _, _, percent, current, total = match(ARGV[progress], REST, progressRest)
end
if not now or not total then
  return {'INVALID', 'an event has no head of 8 words, or no tail'}
end

-- --------------------------------------------------------------------- fold

-- All but what progress and logs change.
local changed, order -- names of fields to their values, false for none; in the order in which they changed
if full then
  changed, order = {}, {}
  -- The hash as it will be: false for a field that is not there, nil for one
  -- that has not been read.
  local h = {status = status, percent = v[2], current = v[3], total = v[4], message = v[5], tags = tags, updated_at = v[7],
    closed_at = closedAt or nil, run_id = v[8], chain = v[9], epoch = v[10], seq = v[11], check = v[12], run_time = v[13]}
  local whole = false

  local function readAll()
    if whole then return end
    whole = true
    local all = call('HGETALL', hash)
    for i = 1, #all, 2 do
      if h[all[i]] == nil then h[all[i]] = all[i + 1] end
    end
  end

  local function get(name)
    if h[name] == nil then h[name] = not whole and call('HGET', hash, name) end
    return h[name]
  end

  local function set(name, value)
    if value == '' then value = false end
    if h[name] == value then return end
    h[name] = value
    if changed[name] == nil then order[#order + 1] = name end
    changed[name] = value
  end

  local function fieldsOf(kind)
    readAll()
    local list = {}
    for name, value in pairs(h) do
      if value and sub(name, 1, #kind) == kind then list[#list + 1] = name end
    end
    return list
  end

  local function terminal(state)
    return state == 'completed' or state == 'failed' or state == 'canceled' or
      state == 'terminated' or state == 'timed_out' or state == 'unknown'
  end

  local function applyStep(number, state, name, json, try)
    local field = 'step.' .. name
    local old = get(field)
    if state == 'queued' and old then return end
    local first, place = number, true
    if old then
      first = match(old, '^{"first":(%d+)') or first
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
      set(field, '{"first":' .. first .. ',"seq":' .. number .. ',' .. sub(json, 2))
    end
    if state ~= 'queued' and h.status == 'queued' then set('status', 'running') end
    local open = get('output.' .. name)
    if open and (terminal(state) or match(open, ' (%d+)$') ~= (try == '-' and '0' or try)) then
      set('output.' .. name, false)
    end
  end

  local function openOutput(number, name, try)
    local field = 'output.' .. name
    if try == '-' then try = '0' end
    local open = get(field)
    if open and match(open, ' (%d+)$') == try then return end
    if not open and #fieldsOf('output.') >= MAX_STEPS then return end
    set(field, number .. ' ' .. try)
  end

  if begins then
    local same = not fresh and storedChain == chain
    readAll()
    for name in pairs(h) do
      if fresh or name ~= 'v' and name ~= 'workflow_id' and name ~= 'first_seq' and name ~= 'epoch' and
        not (same and (name == 'started_at' or name == 'type' or name == 'tags')) then
        set(name, false)
      end
    end
    if fresh then
      set('v', '1')
      set('workflow_id', ARGV[5])
      set('first_seq', '1')
      set('epoch', epoch)
    end
    set('run_id', run)
    set('chain', chain)
    set('status', 'running')
    if not same then set('started_at', match(ARGV[FIRST], '^%S+ %S+ %S+ (%S+)') or now) end
    v[2], v[3], v[4], v[5] = false, false, false, false
  end

  local a = FIRST
  for i = 1, n do
    local kind, texts, try, place = match(ARGV[a], HEAD)
    local time, state = match(ARGV[a], REST, place)
    if not time then
      return {'INVALID', 'an event has no head of 8 words, or no tail'}
    end
    local text = {}
    a = a + 2
    if texts ~= '-' then
      for letter in string.gmatch(texts, '%l') do
        text[letter], a = ARGV[a], a + 1
      end
    end
    if text.w and text.w ~= '' then set('type', text.w) end
    if text.t and text.t ~= '' then set('tags', text.t) end
    if kind == 'step' then
      applyStep(base + i .. '', state, text.s, text.j, try)
    elseif kind == 'output' then
      openOutput(base + i .. '', text.s or '', try)
    elseif kind == 'started' then
      if state ~= 'queued' or (begins and i == 1) then set('status', state) end
    elseif kind == 'closed' then
      if not terminal(state) then
        return {'INVALID', 'a closed event has a status that is not final'}
      end
      set('status', state)
      set('error', text.e or '')
      set('closed_at', time)
      for _, name in ipairs(fieldsOf('output.')) do set(name, false) end
    end
  end
  status, tags, closedAt = h.status, h.tags, h.closed_at
end

-- What progress and logs change.
local write, w, gone = {'HSET', hash, 'updated_at', now, 'seq', seq, 'check', check}, 8, nil
if progress then
  if percent == '-' then percent = false end
  if current == '-' then current = false end
  if total == '-' then total = false end
  if message == '' then message = false end
  if percent ~= v[2] then
    if percent then write[w + 1], write[w + 2], w = 'percent', percent, w + 2 else gone = {'percent'} end
  end
  if current ~= v[3] then
    if current then write[w + 1], write[w + 2], w = 'current', current, w + 2 else gone = gone or {}; gone[#gone + 1] = 'current' end
  end
  if total ~= v[4] then
    if total then write[w + 1], write[w + 2], w = 'total', total, w + 2 else gone = gone or {}; gone[#gone + 1] = 'total' end
  end
  if message ~= v[5] then
    if message then write[w + 1], write[w + 2], w = 'message', message, w + 2 else gone = gone or {}; gone[#gone + 1] = 'message' end
  end
  if status == 'queued' then
    status = 'running'
    write[w + 1], write[w + 2], w = 'status', status, w + 2
  end
end
if step then write[w + 1], write[w + 2], w = 'step', step, w + 2 end
if attemptNow then write[w + 1], write[w + 2], w = 'attempt', attemptNow, w + 2 end
-- A note that a run was queued tells the time of its writer, not that of its
-- first task: keep the older time, so that the run's own start wins over it.
if runTime ~= storedTime or begins then
  local time, stored = tonumber(runTime), tonumber(storedTime) or 0
  if provisional == '0' and time > stored then stored = time end
  if stored > 0 then write[w + 1], write[w + 2], w = 'run_time', stored .. '', w + 2 end
end

-- Trimming takes whole nodes at a time, and expiries last long, so now and
-- then is often enough to look at them: each 64 events, and for expiries also
-- at the ends of runs and when the events' time has reached another minute.
local turn = base % 64 + n >= 64
if not fresh then
  local first
  if not last then
    first = base + 1 .. ''
  elseif turn and trim and base + n > tonumber(maxlen) then
    first = match(call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1], '^%d+')
  end
  if first then write[w + 1], write[w + 2], w = 'first_seq', first, w + 2 end
end

local ttl = tonumber(closedAt and ttlClosed or ttlOpen)
local renew = fresh or not last or (number > 0 and not entry)
if not renew and (turn or begins or closedAt or ttl < 600000 or sub(v[7] or '', 1, 16) ~= sub(now, 1, 16)) then
  local left = call('PTTL', hash)
  renew = left > ttl or left < ttl * 0.9
end

if full then
  -- Both together, what came last wins.
  for i = 3, w, 2 do
    if changed[write[i]] == nil then order[#order + 1] = write[i] end
    changed[write[i]] = write[i + 1]
  end
  for i = 1, gone and #gone or 0 do
    if changed[gone[i]] == nil then order[#order + 1] = gone[i] end
    changed[gone[i]] = false
  end
  if begins then
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
  w, gone = 2, nil
  write = {'HSET', hash}
  for _, name in ipairs(order) do
    local value = changed[name]
    if value then
      write[w + 1], write[w + 2], w = name, value, w + 2
    elseif value == false then
      gone = gone or {}
      gone[#gone + 1] = name
    end
  end
end

-- ------------------------------------------------------------------- writes

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
end
for i = 1, n do
  local by = i == 1 and not fresh and pcall or call
  local answer
  if i == n and trim then
    answer = by('XADD', stream, 'MAXLEN', '~', maxlen, ids[i], 'e', entries[i])
  else
    answer = by('XADD', stream, ids[i], 'e', entries[i])
  end
  if by == pcall and type(answer) == 'table' and answer.err then
    if not find(answer.err, 'equal or smaller', 1, true) then return answer end
    -- Later entries were there and were taken away by hand: the stream still
    -- counts from them. What it holds is right, so it goes into a new one.
    local held = call('XRANGE', stream, '-', '+')
    call('DEL', stream)
    for _, old in ipairs(held) do call('XADD', stream, old[1], unpack(old[2])) end
    call('XADD', stream, ids[1], 'e', entries[1])
    renew = true
  end
end
if not fresh then call(unpack(write)) end
if gone then call('HDEL', hash, unpack(gone)) end
if leaving then
  for i = 1, #leaving, 1000 do
    call('HDEL', producers, unpack(leaving, i, math.min(i + 999, #leaving)))
  end
end
if number > 0 then
  call('HSET', producers, producer, number + n - 1 .. ' ' .. seq .. ' ' .. check .. ' ' .. rank)
end
if renew then
  local ms = ttl .. ''
  call('PEXPIRE', hash, ms)
  call('PEXPIRE', stream, ms)
  call('PEXPIRE', producers, ms)
end
local failed, channel = 0, hash .. ':updates'
for i = 1, n do
  local answer = pcall(publish, channel, entries[i])
  if type(answer) == 'table' and answer.err then failed = failed + 1 end
end
return {'OK', epoch, seq, check, lost > 0 and lost .. '' or '0', status or '', tags or '', failed > 0 and failed .. '' or '0'}
