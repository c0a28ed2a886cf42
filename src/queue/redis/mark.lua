-- Records that jobs run.
-- ARGV: stream and id of each. Returns 1 for each that is held, else 0.

local marked = {}
for n = 1, #ARGV, 2 do
    local stream, id = tonumber(ARGV[n]), ARGV[n + 1]
    local text = text_at(stream, id)
    local key = text and key_of(text)
    local record = key and redis.call('HGET', JOBS, key)
    local place = place_at(record, stream, id)
    if place and not place.started then
        redis.call('HSET', JOBS, key, (string.gsub(record, '^%d:%d+%-%d+', '%0!')))
    end
    marked[#marked + 1] = place and 1 or 0
end
return marked
