#!lua
-- token_bucket: takes requests from a bucket of `burst` requests that refills at a steady rate, or returns how long to wait.
-- The bucket is stored as the time at which it will be full (generic cell rate algorithm). Only the clock of Redis is used.
--
-- KEYS  1 full_at (STRING)  when the bucket will be full, in microseconds; absent if it is full
-- ARGV  1 interval  microseconds until one request is refilled
--       2 burst     requests in a full bucket
--       3 count     requests to take: 1, or 0 to look
-- returns {passed, left, wait, full_in}
--       passed   1 if the request passes; otherwise nothing has changed
--       left     requests that would pass now
--       wait     microseconds until a request would pass; 0 if it would pass now
--       full_in  microseconds until the bucket is full
local full_at_key = KEYS[1]
local interval, burst, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
-- After the settings were lowered, a stored bucket counts at most as empty under the new ones.
local full_at = math.min(math.max(tonumber(redis.call('GET', full_at_key) or now), now), now + burst * interval)

local taken_until = full_at + count * interval
local passed = taken_until - now <= burst * interval
if passed and count > 0 then
  full_at = taken_until
  redis.call('SET', full_at_key, string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
end
local left = math.floor((burst * interval - (full_at - now)) / interval)
local wait = math.max(full_at + interval - burst * interval - now, 0)
return {passed and 1 or 0, left, wait, full_at - now}
