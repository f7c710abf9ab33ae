#!lua flags=no-writes
-- What changed since a reader last looked: KEYS[1] meta hash, KEYS[2] live rollup hashes by the seq of their last change,
-- KEYS[3] deleted ones by the seq of their deletion. Writes nothing.
-- ARGV: key prefix, the reader's token, the reader's seq, fields per call, commits for which deletions are kept,
-- '1' when this continues a reading (the seq is then a score returned before).
-- Returns {token, seq, position, state, full, more, last score, suffix, fields, suffix, fields...}; no fields: deleted.
local meta = redis.call('HMGET', KEYS[1], 'token', 'seq', 'position', 'state')
local seq, since = tonumber(meta[2] or '0'), tonumber(ARGV[3])
-- A reader that is ahead has seen what Redis lost; one too far behind may have missed a deletion that is no longer kept.
local full = (meta[1] or '') ~= ARGV[2] or since > seq or (ARGV[6] ~= '1' and since < seq - tonumber(ARGV[5]))
local from = full and '-inf' or '(' .. ARGV[3]

local live = redis.call('ZRANGEBYSCORE', KEYS[2], from, '+inf', 'WITHSCORES')
local limit, fields, last, more = tonumber(ARGV[4]), 0, false, 0
local reply = {meta[1], meta[2], meta[3], meta[4], full and 1 or 0, 0, false}
for i = 1, #live, 2 do
  -- A page ends between two seqs, so that "after the last score" says exactly what is still to come.
  if fields >= limit and live[i + 1] ~= last then
    more = 1
    break
  end
  local hash = redis.call('HGETALL', ARGV[1] .. live[i])
  reply[#reply + 1] = live[i]
  reply[#reply + 1] = hash
  fields, last = fields + math.max(#hash / 2, 1), live[i + 1]
end
-- Up to this page's end, only so that no page repeats another's deletions.
for _, suffix in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], from, more == 1 and last or '+inf')) do
  reply[#reply + 1] = suffix
  reply[#reply + 1] = {}
end
reply[6], reply[7] = more, last
return reply
