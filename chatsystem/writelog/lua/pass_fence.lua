#!lua
-- pass_fence: lets this Redis pass the fence, and decides which numbers it may trust. The database has already named it
-- the owner, under the partition's row lock: no drain of another Redis can have stored anything since (ownership.py).
--
-- KEYS  1 fence (STRING)  2 clock (STRING)  3 term (STRING)  4 stored (STRING)
-- ARGV  1 drained_through  arrival, in microseconds, of the newest event in the database
--       2 owner     incarnation of the Redis that the database names
--       3 previous  incarnation of the Redis that it named before
--       4 term      the number of the term that begins now
-- returns 'kept' if the epoch goes on and its numbers are valid, 'begun' if a new epoch begins and each number must be
--         seeded, 'other' if this Redis is not the owner: the connection leads to another one by now
local fence_key, clock_key, term_key, stored_key = unpack(KEYS)
local drained_through, owner, previous, term = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]

local incarnation = incarnation_of_redis()
if incarnation ~= owner then return 'other' end
local epoch, passed_by = string.match(redis.call('GET', fence_key) or '', '^(%d+) (%x+)$')
local clock = redis.call('GET', clock_key)

-- Another process has let it pass meanwhile.
if passed_by == incarnation and clock then return 'kept' end

redis.call('SET', term_key, term)
-- An older Redis may hold events again that are stored. A reader of the log must take them from the database: there they
-- may have newer versions, which are no longer in the log.
if drained_through > tonumber(redis.call('GET', stored_key) or 0) then redis.call('SET', stored_key, ARGV[1]) end

-- An event's number and its arrival are written together. So a Redis with the previous owner's state, whose clock has
-- reached the newest event in the database, has all numbers that the database holds and those given since.
if passed_by == previous and clock and tonumber(clock) >= drained_through then
  redis.call('SET', fence_key, epoch .. ' ' .. incarnation)
  return 'kept'
end

-- Otherwise it has lost something. The clock goes on from the newest arrival that is known anywhere: an update with an
-- earlier one would lose against the stored row. The new epoch is named by an arrival that no event had, so its name is
-- unique.
local begun = string.format('%.0f', math.max(drained_through, tonumber(clock or 0)) + 1)
redis.call('SET', clock_key, begun)
redis.call('SET', fence_key, begun .. ' ' .. incarnation)
return 'begun'
