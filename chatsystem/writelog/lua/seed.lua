#!lua
-- seed: lets this Redis process number a parent's children. The caller holds the partition's row lock and has drained it.
--
-- KEYS  1 numbers (HASH)  2 clock (STRING)  3 log (STREAM)
-- ARGV  1 parent           path of the parent; '' for applications
--       2 last_number      of a child that the database holds
--       3 drained_through  arrival, in microseconds, of the newest event that the database holds
-- returns the last number, from which append goes on
local numbers_key, clock_key, log_key = unpack(KEYS)
local parent, last_number, drained_through = unpack(ARGV)

local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')

-- The clock goes on from the newest arrival that anyone remembers: an earlier one would lose against what is stored.
local newest = math.max(tonumber(drained_through), tonumber(redis.call('GET', clock_key) or 0))
if redis.call('EXISTS', log_key) == 1 then
  local stream = redis.call('XINFO', 'STREAM', log_key)
  for i = 1, #stream, 2 do
    if stream[i] == 'last-generated-id' then
      newest = math.max(newest, tonumber(string.match(stream[i + 1], '^%d+')))
    end
  end
end
redis.call('SET', clock_key, string.format('%.0f', newest))

-- What Redis remembers may be more than the database holds, never less: a number once given is not given again.
local remembered = string.match(redis.call('HGET', numbers_key, parent) or '0', '^%d+')
local last = string.format('%.0f', math.max(tonumber(last_number), tonumber(remembered)))
redis.call('HSET', numbers_key, parent, last .. ' ' .. run_id)
return last
