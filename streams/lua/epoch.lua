#!lua
-- The next epoch of leaders: KEYS[1] holds the last one, ARGV[1] is the time in seconds since 1970. Returns it.
-- Never one that was, and not below the time: after Redis was wiped it is still above that of an old leader. Both are far below 2^53.
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local epoch = math.max(last + 1, tonumber(ARGV[1]))
redis.call('SET', KEYS[1], string.format('%.0f', epoch))
return epoch
