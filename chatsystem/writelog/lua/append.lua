#!lua
-- append: accepts a write, and is the only way to. Number, event and receipt are written together or not at all.
--
-- KEYS  1 numbers (HASH)  2 clock (STRING)  3 log (STREAM)  4 pending (HASH)  5 hinted (STRING)  6 fence (STRING)
--       7 usage (HASH)  8 lease (STRING)  9 receipt (STRING)
-- ARGV  1 token        of the application
--       2 verb         'create' or 'update'
--       3 parent       path of the parent; '' for an application
--       4 name         last part of the path: an application's token, or the number that an update is for;
--                      '' for a create that gets the next number
--       5 can_have_children  '1' if the created entity can have numbered children
--       6 fingerprint  hash of the request, to detect a different request under the same key
--       7 lifetime     of the receipt, in seconds
--       8 max_events   that the log may hold for the application
--       9 max_bytes    of text that the log may hold for it
--      10 …            texts, one for each event
-- returns {status, arrival, name, hint}
--       'ok'       accepted: arrival of the first event in microseconds, its number (or the name), '1' to hint a drain
--       'again'    this request was accepted before: the same arrival and name as then
--       'reused'   the receipt belongs to another request
--       'full'     the log holds as much of the application as it may
--       'missing'  no such child: the number was never given
--       'seed'     the number that the write depends on is not known here: seed it, then retry
--       'fence'    this Redis has not been compared with the database: pass the fence, then retry
--       'lease'    this Redis was not confirmed as the owner lately: confirm it, then retry
--       'behind'   the database is older than what it had stored: the partition is halted until that is repaired
--       'superseded'  the database takes events from another Redis: this one accepts nothing
-- Every status except 'ok' has changed nothing.
local numbers_key, clock_key, log_key, pending_key, hinted_key, fence_key, usage_key, lease_key, receipt_key = unpack(KEYS)
local token, verb, parent, name, can_have_children, fingerprint, lifetime, max_events, max_bytes = unpack(ARGV, 1, 9)
local FIRST_TEXT = 10
local count = #ARGV - FIRST_TEXT + 1

local behind, superseded = unpack(redis.call('HMGET', pending_key, 'behind', 'superseded'))
if behind then return {'behind'} end
if superseded then return {'superseded'} end

-- The fence. A Redis that was restarted, restored or flushed is a new process, and a promoted one has a new replication
-- id. Its numbers may be old, and an old number would be given a second time.
local incarnation = incarnation_of_redis()
local fence, clock = redis.call('GET', fence_key), redis.call('GET', clock_key)
if not fence or not clock then return {'fence'} end
local epoch, passed_by = string.match(fence, '^(%d+) (%x+)$')
if passed_by ~= incarnation then return {'fence'} end
-- The lease. An old primary that missed a failover has passed its fence too, but nothing it accepts is ever stored.
if redis.call('GET', lease_key) ~= incarnation then return {'lease'} end

local receipt = redis.call('GET', receipt_key)
if receipt then
  local used_for, arrival, answered = string.match(receipt, '^(%S+) (%S+) (%S+)$')
  if used_for ~= fingerprint then return {'reused'} end
  return {'again', arrival, answered}
end

-- A number from another epoch is from before a loss. A missing number never means zero.
local last_number
if parent ~= '' or verb == 'update' then
  local number = redis.call('HGET', numbers_key, parent ~= '' and parent or name)
  if not number then return {'seed'} end
  local given_in
  last_number, given_in = string.match(number, '^(%d+) (%S+)$')
  if given_in ~= epoch then return {'seed'} end
end
if verb == 'update' and parent ~= '' and tonumber(name) > tonumber(last_number) then return {'missing'} end

local bytes = 0
for i = FIRST_TEXT, #ARGV do bytes = bytes + #ARGV[i] end
local used_events, used_bytes = string.match(redis.call('HGET', usage_key, token) or '0 0', '^(%d+) (%d+)$')
used_events, used_bytes = used_events + count, used_bytes + bytes
if used_events > tonumber(max_events) or used_bytes > tonumber(max_bytes) then return {'full'} end

-- Arrivals increase strictly, even if the host's clock is set back: they order the writes and name the log's entries.
local time = redis.call('TIME')
local arrival = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(clock) + 1)

-- Lua would print 1.79e+15 and lose the last digits.
local function whole(number) return string.format('%.0f', number) end

local numbered = name == ''
if numbered then name = whole(tonumber(last_number) + 1) end
local prefix = parent == '' and '' or parent .. '/'

for i = 1, count do
  local at = whole(arrival + i - 1)
  local path = prefix .. (numbered and whole(tonumber(last_number) + i) or name)
  local text = ARGV[FIRST_TEXT + i - 1]
  local created = at
  if verb == 'update' then
    local earlier = redis.call('HGET', pending_key, path)
    created = earlier and string.match(earlier, '^%S+ (%S+) ') or '-'
  end
  redis.call('XADD', log_key, at .. '-0', 'verb', verb, 'path', path, 'text', text)
  redis.call('HSET', pending_key, path, at .. ' ' .. created .. ' ' .. text)
  if verb == 'create' and can_have_children == '1' then
    redis.call('HSET', numbers_key, path, '0 ' .. epoch)
  end
end

if numbered then
  redis.call('HSET', numbers_key, parent, whole(tonumber(last_number) + count) .. ' ' .. epoch)
end
redis.call('HSET', usage_key, token, whole(used_events) .. ' ' .. whole(used_bytes))
redis.call('SET', clock_key, whole(arrival + count - 1))
redis.call('SET', receipt_key, fingerprint .. ' ' .. whole(arrival) .. ' ' .. name, 'EX', lifetime)
local hint = redis.call('SET', hinted_key, '1', 'NX', 'PX', 2000) and '1' or '0'
return {'ok', whole(arrival), name, hint}
