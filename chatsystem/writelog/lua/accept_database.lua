#!lua
-- accept_database: accepts the database as it is. An operator has decided that what it lost stays lost.
--
-- KEYS  1 fence (STRING)  2 pending (HASH)  3 stored (STRING)
-- ARGV  1 drained_through  arrival, in microseconds, of the newest event in the database
local fence_key, pending_key, stored_key = unpack(KEYS)

-- A parent may be among what was lost. Without a fence a new epoch begins, in which each parent is looked up again
-- before its next child. Its last number stays, so that no number is given a second time.
redis.call('DEL', fence_key)
redis.call('SET', stored_key, ARGV[1])
redis.call('HDEL', pending_key, 'behind')
