#!lua
-- pass: lets this Redis pass the fence, with the numbers that it may trust. The caller holds the partition's row
-- lock, so that nobody stores anything meanwhile.
--
-- KEYS  1 fence (STRING)  2 clock (STRING)
-- ARGV  1 drained_through  arrival, in microseconds, of the newest event that the database holds
-- returns 'kept' when all numbers of the lineage are valid as they are, 'begun' when each is to be seeded
local fence_key, clock_key = unpack(KEYS)
local drained_through = tonumber(ARGV[1])

-- The same as in append.
local info = redis.call('INFO', 'server', 'replication')
local incarnation = string.match(info, 'run_id:(%x+)') .. string.match(info, 'master_replid:(%x+)')
local lineage = string.match(redis.call('GET', fence_key) or '', '^%d+')
local clock = redis.call('GET', clock_key)

-- An event's number and its arrival were written together. So a Redis whose clock has reached what the database holds
-- has all numbers that the database holds, and whatever it was given since.
if lineage and clock and tonumber(clock) >= drained_through then
  redis.call('SET', fence_key, lineage .. ' ' .. incarnation)
  return 'kept'
end

-- Otherwise it has lost something. The clock goes on from the newest arrival that anyone remembers: an earlier one would
-- lose against what is stored. The new lineage is named by an arrival that nobody had, so it is unlike all before it.
local begun = string.format('%.0f', math.max(drained_through, tonumber(clock or 0)) + 1)
redis.call('SET', clock_key, begun)
redis.call('SET', fence_key, begun .. ' ' .. incarnation)
return 'begun'
