#!lua flags=allow-oom
-- remove: forgets events that the database has committed. Runs in a full Redis too, or it would stay full.
--
-- KEYS  1 log (STREAM)  2 pending (HASH)  3 stored (STRING)  4 usage (HASH)  5 hinted (STRING)  6 work (HASH)
-- ARGV  1 through  arrival of the newest event committed: by arrival, not by count, so that a second remover cannot take
--                  what nobody has stored
--       2 events   of the log up to there, as JSON: their paths, their arrivals, the bytes of their texts, and the
--                  arrivals of those that stay in the pending view. It forgets the others, unless something newer is
--                  pending there
--       3 took     microseconds that the drain took, if one is to be counted; then
--       4 stored   its events, and
--       5 6        the fields of work that count a drain of this time, and of this size
-- returns {left, hinted}: how many events the log still holds, and 1 when a drain was asked for that has not begun
local log_key, pending_key, stored_key, usage_key, hinted_key, work_key = unpack(KEYS)
local through = tonumber(ARGV[1])
-- Pending entries that are looked at by one command: each holds a text.
local AT_ONCE = 100

-- Who comes second finds that the log begins later: only what leaves it now is taken off the usage.
local oldest = redis.call('XRANGE', log_key, '-', '+', 'COUNT', 1)[1]
local first = oldest and tonumber(string.match(oldest[1], '^%d+')) or math.huge
local paths, arrivals, sizes, staying = unpack(cjson.decode(ARGV[2]))
local events, bytes, stays = {}, {}, {}

if ARGV[3] then
  redis.call('HINCRBY', work_key, 'took', ARGV[3])
  redis.call('HINCRBY', work_key, 'events', ARGV[4])
  redis.call('HINCRBY', work_key, ARGV[5], 1)
  redis.call('HINCRBY', work_key, ARGV[6], 1)
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
  local forgotten = {}
  for i, pending in ipairs(redis.call('HMGET', pending_key, unpack(paths, from, to))) do
    local arrival = arrivals[from + i - 1]
    if pending and tonumber(string.match(pending, '^%d+')) == arrival and not stays[arrival] then
      forgotten[#forgotten + 1] = paths[from + i - 1]
    end
  end
  if #forgotten > 0 then redis.call('HDEL', pending_key, unpack(forgotten)) end
end
-- What a database has once committed it has to hold for ever after: one that does not is an older copy (behind.py).
if through > tonumber(redis.call('GET', stored_key) or 0) then redis.call('SET', stored_key, ARGV[1]) end

redis.call('XTRIM', log_key, 'MINID', string.format('%.0f', through + 1))
local left = redis.call('XLEN', log_key)
if left == 0 then
  -- An empty log uses nothing, whatever an older Redis brought back.
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
return {left, redis.call('EXISTS', hinted_key)}
