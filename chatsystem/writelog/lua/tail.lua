#!lua flags=no-writes
-- tail: returns the newest events of the log, for readers that follow it.
--
-- KEYS  1 log (STREAM)  2 pending (HASH)  3 clock (STRING)  4 fence (STRING)  5 lease (STRING)  6 stored (STRING)
--       7 term (STRING)  8 withdrawn (HASH)
-- ARGV  1 after   arrival, in microseconds: only later events
--       2 events  3 bytes    after which it stops; the last event may exceed them
-- returns {status}, or {'ok', term, clock, stored, through, withdrawn, events}
--       'behind', 'superseded', 'fence', 'lease'  as in append: what this Redis holds may not count
--       stored     arrival of the newest event that the database has. Events up to there are not returned, even if the
--                  log still holds them. If `after` is earlier, the log may have lost events in between: the feed has them
--       through    all later events up to this arrival are returned: the clock, if nothing is left
--       withdrawn  token, clock, token, clock … as in withdraw
--       events     {arrival, verb, path, text, created}: created is '-' if only the database knows it
-- `stored` and the events are read together, and remove.lua moves `stored` when it trims the log. So no event is missed.
local log_key, pending_key, clock_key, fence_key, lease_key, stored_key, term_key, withdrawn_key = unpack(KEYS)
local after, max_events, max_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
-- Entries that one command reads.
local AT_ONCE = 50

local behind, superseded = unpack(redis.call('HMGET', pending_key, 'behind', 'superseded'))
if behind then return {'behind'} end
if superseded then return {'superseded'} end
local incarnation = incarnation_of_redis()
local fence, clock = redis.call('GET', fence_key), redis.call('GET', clock_key)
if not fence or not clock or string.match(fence, ' (%x+)$') ~= incarnation then return {'fence'} end
if redis.call('GET', lease_key) ~= incarnation then return {'lease'} end

local stored = redis.call('GET', stored_key) or '0'
local at = math.max(after, tonumber(stored))
local through = clock
local events, bytes = {}, 0
while #events < max_events and bytes < max_bytes do
  local entries = redis.call('XRANGE', log_key, string.format('(%.0f-0', at), '+', 'COUNT', AT_ONCE)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    local arrival, fields = string.match(entry[1], '^%d+'), entry[2]
    local verb, path, text = fields[2], fields[4], fields[6]
    local created = arrival
    if verb ~= 'create' then
      local pending = redis.call('HGET', pending_key, path)
      created = pending and string.match(pending, '^%S+ (%S+) ') or '-'
    end
    events[#events + 1] = {arrival, verb, path, text, created}
    bytes = bytes + #text
    at = tonumber(arrival)
    if #events >= max_events or bytes >= max_bytes then break end
  end
end
if #events >= max_events or bytes >= max_bytes then through = string.format('%.0f', at) end
return {'ok', redis.call('GET', term_key) or '0', clock, stored, through, redis.call('HGETALL', withdrawn_key), events}
