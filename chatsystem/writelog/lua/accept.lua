#!lua
-- accept: takes the database as it is for what has been stored, after somebody decided that what it lost stays lost.
--
-- KEYS  1 numbers (HASH)  2 pending (HASH)  3 stored (STRING)
-- ARGV  1 drained_through  arrival, in microseconds, of the newest event that the database holds
-- returns how many parents are to be seeded again
local numbers_key, pending_key, stored_key = unpack(KEYS)

-- A parent may be among what was lost: each is looked for again before its next child. Its last number stays, so that
-- none is given a second time.
local numbers = redis.call('HGETALL', numbers_key)
for i = 1, #numbers, 2 do
  redis.call('HSET', numbers_key, numbers[i], string.match(numbers[i + 1], '^%d+') .. ' unseeded')
end
redis.call('SET', stored_key, ARGV[1])
redis.call('HDEL', pending_key, 'behind')
return #numbers / 2
