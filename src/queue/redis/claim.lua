-- Moves what has become due into its lane, and lends out jobs: those of the lane that goes first, then the others.
-- ARGV: now, worker, how many, the lane that goes first, how many may be moved per lane.
-- Returns stream, id and text of each.

local now, worker, max, first, chunk = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

-- Without memory nothing can be moved, but what is in the streams can still be lent out.
local function move(lane, keys)
    local moved = {}
    for n, record in ipairs(redis.call('HMGET', JOBS, unpack(keys))) do
        local text = record and string.match(record, '^later %d (.*)$')
        if text then
            local id = redis.pcall('XADD', KEYS[lane_itself(lane)], '*', 'job', text)
            if type(id) == 'table' then
                return
            end
            moved[#moved + 1] = keys[n]
            moved[#moved + 1] = lane_itself(lane) .. ':' .. id
        end
    end
    if #moved > 0 then
        redis.call('HSET', JOBS, unpack(moved))
    end
    redis.call('ZREM', later_of(lane), unpack(keys))
end

local function move_due(lane)
    local keys = redis.call('ZRANGEBYSCORE', later_of(lane), '-inf', now, 'LIMIT', 0, chunk)
    if #keys > 0 then
        move(lane, keys)
    end
end

-- The group of a stream that is new, or new since a FLUSHALL, starts at its very first entry.
local function read(stream, count)
    local asked = { 'GROUP', GROUP, worker, 'COUNT', count, 'STREAMS', KEYS[stream], '>' }
    local found = redis.pcall('XREADGROUP', unpack(asked))
    if found and found.err then
        if not string.find(found.err, 'NOGROUP') then
            error(found)
        end
        redis.call('XGROUP', 'CREATE', KEYS[stream], GROUP, '0', 'MKSTREAM')
        found = redis.call('XREADGROUP', unpack(asked))
    end
    return found and found[1][2] or {}
end

move_due(1)
move_due(2)

local claimed, left = {}, max
local second = 3 - first
for _, stream in ipairs({ front_of(first), lane_itself(first), front_of(second), lane_itself(second) }) do
    if left > 0 then
        for _, entry in ipairs(read(stream, left)) do
            claimed[#claimed + 1] = stream
            claimed[#claimed + 1] = entry[1]
            claimed[#claimed + 1] = entry[2] and entry[2][2] or ''
            left = left - 1
        end
    end
end
if left > 0 then
    redis.call('DEL', BELL)
end
return claimed
