#!lua
-- seed: adds a parent to the lineage, with the last number of its children. The caller holds the partition's row lock and
-- has drained it.
--
-- KEYS  1 numbers (HASH)  2 fence (STRING)
-- ARGV  1 parent       its path
--       2 last_number  of a child that the database holds
-- returns the last number, from which append goes on; false when the fence is gone, and with it the lineage
local numbers_key, fence_key = unpack(KEYS)
local parent, last_number = unpack(ARGV)

local lineage = string.match(redis.call('GET', fence_key) or '', '^%d+')
if not lineage then return false end

-- What Redis remembers may be more than the database holds, never less: a number once given is not given again.
local remembered = string.match(redis.call('HGET', numbers_key, parent) or '0', '^%d+')
local last = string.format('%.0f', math.max(tonumber(last_number), tonumber(remembered)))
redis.call('HSET', numbers_key, parent, last .. ' ' .. lineage)
return last
