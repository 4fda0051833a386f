#!lua
-- accept: takes the database as it is for what has been stored, after somebody decided that what it lost stays lost.
--
-- KEYS  1 fence (STRING)  2 pending (HASH)  3 stored (STRING)
-- ARGV  1 drained_through  arrival, in microseconds, of the newest event that the database holds
local fence_key, pending_key, stored_key = unpack(KEYS)

-- A parent may be among what was lost: without a fence a new lineage begins, and each is looked for again before its next
-- child. Its last number stays, so that none is given a second time.
redis.call('DEL', fence_key)
redis.call('SET', stored_key, ARGV[1])
redis.call('HDEL', pending_key, 'behind')
