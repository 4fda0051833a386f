#!lua flags=no-writes
-- page: what is pending among a run of a parent's children. One round trip for a list.
--
-- KEYS  1 numbers (HASH)  2 pending (HASH)  3 clock (STRING)  4 fence (STRING)
-- ARGV  1 parent    path of the parent
--       2 low       3 high      4 limit     the numbers asked for, at most `limit` of them …
--       5 from_low  '1' counted from the low end, '0' from the high end
-- returns {'behind'} when the database has lost what it had stored, else
--         {last number or false, version, pending values or false: one for each number of the run}
-- Until the version is another, whatever the parent's children are asked for has the same answer. It is false while
-- nobody has compared this Redis with the database, which may hold what this one does not know of.
local numbers_key, pending_key, clock_key, fence_key = unpack(KEYS)
local parent = ARGV[1]
local low, high, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

if redis.call('HEXISTS', pending_key, 'behind') == 1 then return {'behind'} end

-- The same as in append.
local info = redis.call('INFO', 'server', 'replication')
local incarnation = string.match(info, 'run_id:(%x+)') .. string.match(info, 'master_replid:(%x+)')
local fence, clock = redis.call('GET', fence_key), redis.call('GET', clock_key)
local version = fence and clock and string.match(fence, ' (%x+)$') == incarnation and clock .. ' ' .. fence

local last = string.match(redis.call('HGET', numbers_key, parent) or '', '^%d+')
-- Nothing can be pending under a parent that has no number here: append refuses it.
if not last then return {false, version, {}} end

high = math.min(high, tonumber(last))
if ARGV[5] == '1' then
  high = math.min(high, low + limit - 1)
else
  low = math.max(low, high - limit + 1)
end
if low > high then return {last, version, {}} end

local paths = {}
for number = low, high do
  paths[#paths + 1] = parent .. '/' .. string.format('%.0f', number)
end
return {last, version, redis.call('HMGET', pending_key, unpack(paths))}
