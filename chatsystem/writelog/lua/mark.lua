#!lua
-- mark: names this Redis process, unless another client has named it since the caller looked.
--
-- KEYS  1 mark (STRING)
-- ARGV  1 seen  the name that the caller saw; '' for none
-- returns the name that counts
local mark_key = KEYS[1]
local named = redis.call('GET', mark_key)
if (named or '') ~= ARGV[1] then return named or '' end
redis.call('SET', mark_key, incarnation_of_redis())
return incarnation_of_redis()
