#!lua flags=no-writes
-- page: returns the pending view of a run of a parent's children. One round trip for a list.
--
-- KEYS  1 numbers (HASH)  2 pending (HASH)  3 clock (STRING)  4 fence (STRING)  5 term (STRING)
-- ARGV  1 parent    path of the parent
--       2 low       3 high      4 limit     the requested numbers, at most `limit` of them …
--       5 from_low  '1': from the low end, '0': from the high end
-- returns {'behind'} if the database has lost what it had stored, {'superseded'} if it takes events from another Redis,
--         otherwise {last number or false, version, pending values or false: one for each number of the run, term}
-- As long as the version is the same, every question about the parent's children has the same answer. The version is
-- false while this Redis has not been compared with the database, which may hold events that this Redis does not know.
local numbers_key, pending_key, clock_key, fence_key, term_key = unpack(KEYS)
local parent = ARGV[1]
local low, high, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local behind, superseded = unpack(redis.call('HMGET', pending_key, 'behind', 'superseded'))
if behind then return {'behind'} end
if superseded then return {'superseded'} end

local incarnation = incarnation_of_redis()
local fence, clock = redis.call('GET', fence_key), redis.call('GET', clock_key)
local version = fence and clock and string.match(fence, ' (%x+)$') == incarnation and clock .. ' ' .. fence

local term = redis.call('GET', term_key) or '0'
local last = string.match(redis.call('HGET', numbers_key, parent) or '', '^%d+')
-- Nothing is pending under a parent without a number: append refuses such a write.
if not last then return {false, version, {}, term} end

high = math.min(high, tonumber(last))
if ARGV[5] == '1' then
  high = math.min(high, low + limit - 1)
else
  low = math.max(low, high - limit + 1)
end
if low > high then return {last, version, {}, term} end

local paths = {}
for number = low, high do
  paths[#paths + 1] = parent .. '/' .. string.format('%.0f', number)
end
return {last, version, redis.call('HMGET', pending_key, unpack(paths)), term}
