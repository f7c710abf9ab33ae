#!lua
-- Compare and set what the evaluator of alerts keeps: KEYS[1] the meta hash of partition 0, KEYS[2] the state, of the same hash tag.
-- ARGV: the token of the claim of partition 0, version before, version after, state.
-- Returns 'ok', or having written nothing: 'fenced' (somebody else leads), 'moved' (another version is stored).
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 'fenced' end
if (redis.call('HGET', KEYS[2], 'version') or '0') ~= ARGV[2] then return 'moved' end
redis.call('HSET', KEYS[2], 'version', ARGV[3], 'state', ARGV[4])
return 'ok'
