#!lua
-- append: accepts a write. The number, the event and the receipt live and die together; nothing else accepts anything.
--
-- KEYS  1 numbers (HASH)  2 clock (STRING)  3 log (STREAM)  4 pending (HASH)  5 hinted (STRING)  6 receipt (STRING)
-- ARGV  1 verb         'create' or 'update'
--       2 parent       path of the parent; '' for an application
--       3 name         last part of the path: an application's token, the number that an update is for;
--                      '' when a create is to be given the next number
--       4 fertile      '1' when what is created has numbered children of its own
--       5 fingerprint  hash of the request, to tell a repeated one from another under the same key
--       6 lifetime     of the receipt, in seconds
--       7 max_events   that the log may hold
--       8 …            texts, one for each event
-- returns {status, arrival, name, hint}
--       'ok'       accepted: arrival of the first event in microseconds, its number (or the name), '1' to hint a drain
--       'behind'   the database is older than what it had stored: nothing is accepted until somebody has looked
--       'again'    this request was accepted before: the same arrival and name as then
--       'reused'   the receipt is another request's
--       'seed'     the numbers here were not seeded by this Redis process: seed, then ask again
--       'missing'  no such child: the number was never given
--       'full'     the log holds max_events
-- Whatever is not 'ok' has changed nothing.
local numbers_key, clock_key, log_key, pending_key, hinted_key, receipt_key = unpack(KEYS)
local verb, parent, name, fertile, fingerprint, lifetime, max_events = unpack(ARGV, 1, 7)
local FIRST_TEXT = 8
local count = #ARGV - FIRST_TEXT + 1

if redis.call('HEXISTS', pending_key, 'behind') == 1 then return {'behind'} end

local receipt = redis.call('GET', receipt_key)
if receipt then
  local used_for, arrival, answered = string.match(receipt, '^(%S+) (%S+) (%S+)$')
  if used_for ~= fingerprint then return {'reused'} end
  return {'again', arrival, answered}
end

-- The fence. A Redis that was restarted, restored, flushed or promoted has another run_id; its numbers may be old, and an
-- old number would be given a second time. An absent number never means zero.
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local fence = redis.call('HGET', numbers_key, parent)
local clock = redis.call('GET', clock_key)
if not fence or not clock then return {'seed'} end
local last_number, seeded_by = string.match(fence, '^(%d+) (%x+)$')
if seeded_by ~= run_id then return {'seed'} end

if verb == 'update' then
  if parent == '' then
    if redis.call('HEXISTS', numbers_key, name) == 0 then return {'seed'} end
  elseif tonumber(name) > tonumber(last_number) then
    return {'missing'}
  end
end

if redis.call('XLEN', log_key) + count > tonumber(max_events) then return {'full'} end

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
    redis.call('HSET', numbers_key, path, '0 ' .. run_id)
  end
end

if numbered then
  redis.call('HSET', numbers_key, parent, whole(tonumber(last_number) + count) .. ' ' .. run_id)
end
redis.call('SET', clock_key, whole(arrival + count - 1))
redis.call('SET', receipt_key, fingerprint .. ' ' .. whole(arrival) .. ' ' .. name, 'EX', lifetime)
local hint = redis.call('SET', hinted_key, '1', 'NX', 'PX', 2000) and '1' or '0'
return {'ok', whole(arrival), name, hint}
