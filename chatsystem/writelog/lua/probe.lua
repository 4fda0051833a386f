#!lua
-- probe: runs every command that append runs, on a key of its own. So readiness fails when a write would.
--
-- KEYS  1 probe
-- returns 1, or the error of the first command that fails, with the command's name
local key = KEYS[1]
local commands = {
  {'DEL', key}, {'HSET', key, 'field', '1'}, {'HGET', key, 'field'}, {'HMGET', key, 'field'},
  {'DEL', key}, {'XADD', key, '*', 'field', '1'},
  {'SET', key, '1', 'PX', '1000'}, {'GET', key}, {'TIME'},
}
for _, command in ipairs(commands) do
  local answer = redis.pcall(unpack(command))
  -- Redis 7.0 does not name the command it refuses.
  if type(answer) == 'table' and answer.err then
    return redis.error_reply(answer.err .. " (the '" .. string.lower(command[1]) .. "' command)")
  end
end
return 1
