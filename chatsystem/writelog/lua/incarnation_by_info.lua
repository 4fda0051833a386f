-- The name of the Redis process: each process has its own run_id, and a promoted replica gets a new master_replid.
local function incarnation_of_redis()
  local info = redis.call('INFO', 'server', 'replication')
  return string.match(info, 'run_id:(%x+)') .. string.match(info, 'master_replid:(%x+)')
end
