#!lua flags=allow-oom
-- remove: forgets events that the database has committed. Runs in a full Redis too, or it would stay full.
--
-- KEYS  1 log (STREAM)  2 pending (HASH)  3 stored (STRING)
-- ARGV  1 through  arrival of the newest event committed: by arrival, not by count, so that a second remover cannot take
--                  what nobody has stored
--       2 …        pairs of path and arrival: what the pending view may forget unless something newer is pending there
-- returns how many events left the log
local log_key, pending_key, stored_key = unpack(KEYS)

for i = 2, #ARGV, 2 do
  local pending = redis.call('HGET', pending_key, ARGV[i])
  if pending and string.match(pending, '^%d+') == ARGV[i + 1] then
    redis.call('HDEL', pending_key, ARGV[i])
  end
end
-- What a database has once committed it has to hold for ever after: one that does not is an older copy (behind.py).
if tonumber(ARGV[1]) > tonumber(redis.call('GET', stored_key) or 0) then
  redis.call('SET', stored_key, ARGV[1])
end
return redis.call('XTRIM', log_key, 'MINID', string.format('%.0f', tonumber(ARGV[1]) + 1))
