#!lua flags=no-writes
-- page: what is pending among a run of a parent's children. One round trip for a list.
--
-- KEYS  1 numbers (HASH)  2 pending (HASH)
-- ARGV  1 parent    path of the parent
--       2 low       3 high      4 limit     the numbers asked for, at most `limit` of them …
--       5 from_low  '1' counted from the low end, '0' from the high end
-- returns {'behind', {}} when the database has lost what it had stored, else
--         {last number or false, pending values or false: one for each number of the run}
local numbers_key, pending_key = unpack(KEYS)
local parent = ARGV[1]
local low, high, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

if redis.call('HEXISTS', pending_key, 'behind') == 1 then return {'behind', {}} end

local last = string.match(redis.call('HGET', numbers_key, parent) or '', '^%d+')
-- Nothing can be pending under a parent that has no number here: append refuses it.
if not last then return {false, {}} end

high = math.min(high, tonumber(last))
if ARGV[5] == '1' then
  high = math.min(high, low + limit - 1)
else
  low = math.max(low, high - limit + 1)
end
if low > high then return {last, {}} end

local paths = {}
for number = low, high do
  paths[#paths + 1] = parent .. '/' .. string.format('%.0f', number)
end
return {last, redis.call('HMGET', pending_key, unpack(paths))}
