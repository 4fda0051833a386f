#!lua
-- seed: adds a parent to the epoch, with the last number of its children. The caller holds the partition's row lock and
-- has drained the partition.
--
-- KEYS  1 numbers (HASH)  2 fence (STRING)
-- ARGV  1 parent       its path
--       2 last_number  the highest among its children in the database
--       3 fence        the fence, read before that number
-- returns the last number, after which append goes on; false if the fence has changed: the caller was stopped meanwhile
--         and lost its session and its lock, so the number may be old
local numbers_key, fence_key = unpack(KEYS)
local parent, last_number, fence = unpack(ARGV)

local epoch = string.match(fence, '^%d+')
if not epoch or redis.call('GET', fence_key) ~= fence then return false end

-- The larger of the two counts. Redis may remember more than the database holds, and no number is given twice.
local remembered = string.match(redis.call('HGET', numbers_key, parent) or '0', '^%d+')
local last = string.format('%.0f', math.max(tonumber(last_number), tonumber(remembered)))
redis.call('HSET', numbers_key, parent, last .. ' ' .. epoch)
return last
