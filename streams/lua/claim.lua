#!lua
-- Take a partition: KEYS[1] its meta hash.
-- ARGV: token, owner, Kafka generation, configuration number, force ('1' or '0'), the formats that can be
-- read, first the one to write.
-- Returns {'ok', position, state, configuration, seq} or {reason, stored number, stored owner}; a missing value is nil.
local stored = redis.call('HMGET', KEYS[1], 'generation', 'config', 'format', 'owner', 'position', 'state', 'seq')
local generation, config, format, owner = stored[1], stored[2], stored[3], stored[4]
if format then
  local readable = false
  for i = 6, #ARGV do
    readable = readable or ARGV[i] == format
  end
  if not readable then return {'format', format, owner} end
end
if config and tonumber(config) > tonumber(ARGV[4]) then return {'config', config, owner} end
if generation and ARGV[5] ~= '1' and tonumber(generation) > tonumber(ARGV[3]) then
  return {'generation', generation, owner}
end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'owner', ARGV[2], 'generation', ARGV[3], 'format', ARGV[6])
return {'ok', stored[5], stored[6], config, stored[7]}
