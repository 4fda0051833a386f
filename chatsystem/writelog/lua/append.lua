#!lua
-- append: accepts a write. The number, the event and the receipt live and die together; nothing else accepts anything.
--
-- KEYS  1 numbers (HASH)  2 clock (STRING)  3 log (STREAM)  4 pending (HASH)  5 hinted (STRING)  6 fence (STRING)
--       7 usage (HASH)  8 totals (HASH)  9 receipt (STRING)
-- ARGV  1 token        of the application
--       2 verb         'create' or 'update'
--       3 parent       path of the parent; '' for an application
--       4 name         last part of the path: an application's token, the number that an update is for;
--                      '' when a create is to be given the next number
--       5 fertile      '1' when what is created has numbered children of its own
--       6 fingerprint  hash of the request, to tell a repeated one from another under the same key
--       7 lifetime     of the receipt, in seconds
--       8 max_events   that the log may hold of the application
--       9 max_bytes    of text that the log may hold of it
--      10 …            texts, one for each event
-- returns {status, arrival, name, hint}
--       'ok'       accepted: arrival of the first event in microseconds, its number (or the name), '1' to hint a drain
--       'behind'   the database is older than what it had stored: nothing is accepted until somebody has looked
--       'again'    this request was accepted before: the same arrival and name as then
--       'reused'   the receipt is another request's
--       'fence'    nobody has compared this Redis with the database: let it pass the fence, then ask again
--       'seed'     the number that the write depends on is not known here: seed it, then ask again
--       'missing'  no such child: the number was never given
--       'full'     the log holds as much of the application as it may
-- Whatever is not 'ok' has changed nothing.
local numbers_key, clock_key, log_key, pending_key, hinted_key, fence_key, usage_key, totals_key, receipt_key = unpack(KEYS)
local token, verb, parent, name, fertile, fingerprint, lifetime, max_events, max_bytes = unpack(ARGV, 1, 9)
local FIRST_TEXT = 10
local count = #ARGV - FIRST_TEXT + 1

if redis.call('HEXISTS', pending_key, 'behind') == 1 then return {'behind'} end

local receipt = redis.call('GET', receipt_key)
if receipt then
  local used_for, arrival, answered = string.match(receipt, '^(%S+) (%S+) (%S+)$')
  if used_for ~= fingerprint then return {'reused'} end
  return {'again', arrival, answered}
end

-- The fence. A Redis that was restarted, restored or flushed is another process, one that was promoted has another
-- replication id; its numbers may be old, and an old number would be given a second time.
local info = redis.call('INFO', 'server', 'replication')
local incarnation = string.match(info, 'run_id:(%x+)') .. string.match(info, 'master_replid:(%x+)')
local fence, clock = redis.call('GET', fence_key), redis.call('GET', clock_key)
if not fence or not clock then return {'fence'} end
local lineage, passed_by = string.match(fence, '^(%d+) (%x+)$')
if passed_by ~= incarnation then return {'fence'} end

-- A number of another lineage is from before a loss. An absent one never means zero.
local last_number
if parent ~= '' or verb == 'update' then
  local number = redis.call('HGET', numbers_key, parent ~= '' and parent or name)
  if not number then return {'seed'} end
  local told_in
  last_number, told_in = string.match(number, '^(%d+) (%S+)$')
  if told_in ~= lineage then return {'seed'} end
end
if verb == 'update' and parent ~= '' and tonumber(name) > tonumber(last_number) then return {'missing'} end

local bytes = 0
for i = FIRST_TEXT, #ARGV do bytes = bytes + #ARGV[i] end
local used_events, used_bytes = string.match(redis.call('HGET', usage_key, token) or '0 0', '^(%d+) (%d+)$')
used_events, used_bytes = used_events + count, used_bytes + bytes
if used_events > tonumber(max_events) or used_bytes > tonumber(max_bytes) then return {'full'} end

-- Arrivals increase strictly, whatever the host's clock does: they order the writes and name the log's entries.
local time = redis.call('TIME')
local arrival = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(clock) + 1)

-- A number as Lua would print it, 1.79e+15, has lost its last digits.
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
  if verb == 'create' and fertile == '1' then
    redis.call('HSET', numbers_key, path, '0 ' .. lineage)
  end
end

if numbered then
  redis.call('HSET', numbers_key, parent, whole(tonumber(last_number) + count) .. ' ' .. lineage)
end
redis.call('HSET', usage_key, token, whole(used_events) .. ' ' .. whole(used_bytes))
redis.call('HINCRBY', totals_key, 'acknowledged', count)
redis.call('SET', clock_key, whole(arrival + count - 1))
redis.call('SET', receipt_key, fingerprint .. ' ' .. whole(arrival) .. ' ' .. name, 'EX', lifetime)
local hint = redis.call('SET', hinted_key, '1', 'NX', 'PX', 2000) and '1' or '0'
return {'ok', whole(arrival), name, hint}
