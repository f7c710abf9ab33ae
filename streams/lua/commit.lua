#!lua
-- Move a partition from one position to the next: KEYS[1] its meta hash, which also routes the call on Redis Cluster; every
-- other key has the same hash tag.
-- ARGV: token, position before, position after, state, seq, configuration, lengths, body.
-- `body` holds the words of all commands end to end; `lengths` (msgpack) has per command the byte lengths of its words.
-- Returns 1 when applied, else {stored token, stored position}, having written nothing.
--
-- Only absolute values are set, so running it twice is running it once. Whatever could raise an error is tried before the first
-- write: a script that fails later is not rolled back. The first line makes the server itself refuse before the start when
-- it is out of memory, a replica or unable to write its log; without it, a script that begins with DEL would go on past its memory limit.
local stored = redis.call('HMGET', KEYS[1], 'token', 'position')
if stored[1] ~= ARGV[1] or (stored[2] or '0:0') ~= ARGV[2] then return stored end

-- The commands that may come, and the type their key must have when it exists (false: any).
local needs = {
  DEL = false, MSET = false, HSET = 'hash', HDEL = 'hash', SADD = 'set', SREM = 'set', PFADD = 'string',
  ZADD = 'zset', ZREM = 'zset', ZREMRANGEBYSCORE = 'zset',
}
local body, at, sub = ARGV[8], 1, string.sub
local commands = cmsgpack.unpack(ARGV[7])
for i = 1, #commands do
  local lengths, words = commands[i], {}
  for j = 1, #lengths do
    local stop = at + lengths[j]
    words[j] = sub(body, at, stop - 1)
    at = stop
  end
  commands[i] = words
  local need = needs[words[1]]
  if need == nil then return redis.error_reply('ERR not a command of commit: ' .. tostring(words[1])) end
  if need then
    local found = redis.call('TYPE', words[2]).ok
    local right = found == 'none' or found == need
    if right and words[1] == 'PFADD' and found == 'string' then right = redis.call('GETRANGE', words[2], 0, 3) == 'HYLL' end
    if not right then return redis.error_reply('WRONGTYPE ' .. words[1] .. ' on ' .. words[2] .. ', a ' .. found) end
  end
end
if at ~= #body + 1 then return redis.error_reply('ERR lengths and body of a commit differ') end

for i = 1, #commands do
  redis.call(unpack(commands[i]))
end
redis.call('HSET', KEYS[1], 'position', ARGV[3], 'state', ARGV[4], 'seq', ARGV[5], 'config', ARGV[6])
return 1
