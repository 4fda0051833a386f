#!lua flags=allow-oom
-- remove: removes events that the database has committed. Runs in a full Redis too: otherwise it would stay full.
--
-- KEYS  1 log (STREAM)  2 pending (HASH)  3 stored (STRING)  4 usage (HASH)  5 work (HASH)  6 lease (STRING)
-- ARGV  1 through  arrival of the newest committed event. An arrival, not a count, so that a second remover cannot take
--                  events that are not stored
--       2 events   the log's events up to there, as JSON: their paths, their arrivals, the bytes of their texts, and
--                  the arrivals of those that stay in the pending view. The others leave it, unless something newer is
--                  pending there
--       3 owner    run_id and replid of the Redis that the database named as its owner at the commit
--       4 until    the end of its lease in milliseconds; '' and 0 to leave the lease as it is
--       5 took     microseconds that the drain took, if it is counted in the metrics; then
--       6 stored   its events, and
--       7 8        the fields of work that count a drain of this duration and of this size
local log_key, pending_key, stored_key, usage_key, work_key, lease_key = unpack(KEYS)
local through = tonumber(ARGV[1])
-- Pending entries that one command reads. Each holds a text.
local AT_ONCE = 100

-- A second remover finds that the log begins later. Only what leaves the log now is subtracted from the usage.
local oldest = redis.call('XRANGE', log_key, '-', '+', 'COUNT', 1)[1]
local first = oldest and tonumber(string.match(oldest[1], '^%d+')) or math.huge
local paths, arrivals, sizes, staying = unpack(cjson.decode(ARGV[2]))
local events, bytes, stays = {}, {}, {}

-- A drain that commits has confirmed the owner. Under load that happens more often than the sweep. A slow drain has done
-- so longer ago: it must not shorten a lease that was renewed meanwhile.
if ARGV[3] ~= '' then
  local time = redis.call('TIME')
  local left = tonumber(ARGV[4]) - math.floor(time[1] * 1000 + time[2] / 1000)
  if redis.call('GET', lease_key) ~= ARGV[3] or redis.call('PTTL', lease_key) < left then
    redis.call('SET', lease_key, ARGV[3], 'PXAT', ARGV[4])
  end
end
if ARGV[5] then
  redis.call('HINCRBY', work_key, 'took', ARGV[5])
  redis.call('HINCRBY', work_key, 'events', ARGV[6])
  redis.call('HINCRBY', work_key, ARGV[7], 1)
  redis.call('HINCRBY', work_key, ARGV[8], 1)
end
for i, path in ipairs(paths) do
  if first <= arrivals[i] and arrivals[i] <= through then
    local token = string.match(path, '^[^/]+')
    events[token] = (events[token] or 0) + 1
    bytes[token] = (bytes[token] or 0) + sizes[i]
  end
end
for _, arrival in ipairs(staying) do stays[arrival] = true end
for from = 1, #paths, AT_ONCE do
  local to = math.min(from + AT_ONCE - 1, #paths)
  local removed = {}
  for i, pending in ipairs(redis.call('HMGET', pending_key, unpack(paths, from, to))) do
    local arrival = arrivals[from + i - 1]
    if pending and tonumber(string.match(pending, '^%d+')) == arrival and not stays[arrival] then
      removed[#removed + 1] = paths[from + i - 1]
    end
  end
  if #removed > 0 then redis.call('HDEL', pending_key, unpack(removed)) end
end
-- A database must keep what it has committed. One that does not is an older copy (rollback_guard.py).
if through > tonumber(redis.call('GET', stored_key) or 0) then redis.call('SET', stored_key, ARGV[1]) end

redis.call('XTRIM', log_key, 'MINID', string.format('%.0f', through + 1))
if redis.call('XLEN', log_key) == 0 then
  -- An empty log uses nothing, even if an older Redis brought back other figures.
  redis.call('DEL', usage_key)
else
  for token, count in pairs(events) do
    local used_events, used_bytes = string.match(redis.call('HGET', usage_key, token) or '0 0', '^(%d+) (%d+)$')
    local left_events, left_bytes = used_events - count, math.max(used_bytes - bytes[token], 0)
    if left_events > 0 then
      redis.call('HSET', usage_key, token, string.format('%.0f %.0f', left_events, left_bytes))
    else
      redis.call('HDEL', usage_key, token)
    end
  end
end
