#!lua
-- take: lets a request pass, or tells for how long it has to wait. A bucket of `burst` requests that fills at a steady rate,
-- kept as the time at which it will be full (the generic cell rate algorithm). By Redis's clock, no host's takes part.
--
-- KEYS  1 full_at (STRING)  when the bucket will be full, in microseconds; absent when it is
-- ARGV  1 interval  microseconds in which one request is given back
--       2 burst     requests that a full bucket holds
--       3 count     requests to take: 1, or 0 to look
-- returns {passed, left, wait, full_in}
--       passed   1 when the request passes; what does not pass has changed nothing
--       left     requests that would pass now
--       wait     microseconds until one would pass; 0 when one would now
--       full_in  microseconds until the bucket is full
local full_at_key = KEYS[1]
local interval, burst, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
-- A bucket of a longer interval or burst, before a setting was changed, is no emptier than an empty one of now.
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
