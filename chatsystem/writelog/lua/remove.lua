#!lua flags=allow-oom
-- remove: forgets events that the database has committed. Runs in a full Redis too, or it would stay full.
--
-- KEYS  1 log (STREAM)  2 pending (HASH)  3 stored (STRING)  4 usage (HASH)  5 totals (HASH)
-- ARGV  1 through  arrival of the newest event committed: by arrival, not by count, so that a second remover cannot take
--                  what nobody has stored
--       2 …        four for each of the log's events up to there: path, arrival, bytes of its text, and '1' when the
--                  pending view may forget it, unless something newer is pending there
-- returns how many events left the log
local log_key, pending_key, stored_key, usage_key, totals_key = unpack(KEYS)
local through = tonumber(ARGV[1])

-- Who comes second finds that the log begins later: only what leaves it now is taken off the usage.
local oldest = redis.call('XRANGE', log_key, '-', '+', 'COUNT', 1)[1]
local first = oldest and tonumber(string.match(oldest[1], '^%d+')) or math.huge
local events, bytes = {}, {}

for i = 2, #ARGV, 4 do
  local path, arrival = ARGV[i], ARGV[i + 1]
  if ARGV[i + 3] == '1' then
    local pending = redis.call('HGET', pending_key, path)
    if pending and string.match(pending, '^%d+') == arrival then redis.call('HDEL', pending_key, path) end
  end
  if first <= tonumber(arrival) and tonumber(arrival) <= through then
    local token = string.match(path, '^[^/]+')
    events[token] = (events[token] or 0) + 1
    bytes[token] = (bytes[token] or 0) + ARGV[i + 2]
  end
end
-- What a database has once committed it has to hold for ever after: one that does not is an older copy (behind.py).
if through > tonumber(redis.call('GET', stored_key) or 0) then redis.call('SET', stored_key, ARGV[1]) end

local removed = redis.call('XTRIM', log_key, 'MINID', string.format('%.0f', through + 1))
redis.call('HINCRBY', totals_key, 'stored', removed)
-- An empty log uses nothing, whatever an older Redis brought back.
if redis.call('XLEN', log_key) == 0 then
  redis.call('DEL', usage_key)
  return removed
end
for token, count in pairs(events) do
  local used_events, used_bytes = string.match(redis.call('HGET', usage_key, token) or '0 0', '^(%d+) (%d+)$')
  local left_events, left_bytes = used_events - count, math.max(used_bytes - bytes[token], 0)
  if left_events > 0 then
    redis.call('HSET', usage_key, token, string.format('%.0f %.0f', left_events, left_bytes))
  else
    redis.call('HDEL', usage_key, token)
  end
end
return removed
