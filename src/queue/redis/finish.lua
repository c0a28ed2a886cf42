-- Forgets jobs that have finished: the short way, of which most jobs go.
-- ARGV: their stream, the ids, and as many keys. Returns the places in the list of those that are not as they were claimed,
-- because they were pushed again, or are no longer held: `settle.lua` looks closer.

local stream, count = tonumber(ARGV[1]), (#ARGV - 1) / 2
local ids, keys, rest = {}, {}, {}
for n, record in ipairs(redis.call('HMGET', JOBS, unpack(ARGV, 2 + count))) do
    local id = ARGV[1 + n]
    local place = stream .. ':' .. id
    if record == place or record == place .. '!' then
        ids[#ids + 1] = id
        keys[#keys + 1] = ARGV[1 + count + n]
    else
        rest[#rest + 1] = n - 1
    end
end
if #ids > 0 then
    redis.call('XACK', KEYS[stream], GROUP, unpack(ids))
    redis.call('XDEL', KEYS[stream], unpack(ids))
    redis.call('HDEL', JOBS, unpack(keys))
end
return rest
