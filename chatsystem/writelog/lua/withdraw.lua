#!lua flags=allow-oom
-- withdraw: removes a discarded event from the pending view. Reads go back to what is left of its entity.
--
-- KEYS  1 numbers (HASH)  2 pending (HASH)  3 clock (STRING)  4 withdrawn (HASH)
-- ARGV  1 path
--       2 arrival  of the discarded event
--       3 instead  the pending value of the entity's newest remaining dead event; '' if there is none
--       4 verb     of the discarded event. Without its create an entity never existed: its children get no more
--                  numbers, unless a seed finds it in the database
--       5 retention  for which readers may still be at an earlier position, in seconds
-- returns the clock after this, in microseconds; 0 without one
local numbers_key, pending_key, clock_key, withdrawn_key = unpack(KEYS)
local path, arrival, instead, verb, retention = unpack(ARGV)

local pending = redis.call('HGET', pending_key, path)
-- A newer entry belongs to another event: an update in the log, whose removal clears it.
if pending and string.match(pending, '^%d+') == arrival then
  if instead == '' then
    redis.call('HDEL', pending_key, path)
  else
    redis.call('HSET', pending_key, path, instead)
  end
end
if verb == 'create' then redis.call('HDEL', numbers_key, path) end
-- Invalidates cached responses. Streams that have shown the event are at an earlier position: they are reset.
local clock = redis.call('GET', clock_key)
if not clock then return '0' end
clock = string.format('%.0f', tonumber(clock) + 1)
redis.call('SET', clock_key, clock)
redis.call('HSET', withdrawn_key, string.match(path, '^[^/]+'), clock)
redis.call('EXPIRE', withdrawn_key, retention)
return clock
