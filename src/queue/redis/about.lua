-- Where jobs are.
-- ARGV: their keys. Returns, of each that is there, whether it is held (1) or waits (0), and its text.

local found = {}
for _, record in ipairs(redis.call('HMGET', JOBS, unpack(ARGV))) do
    local text, held = record and string.match(record, '^later %d (.*)$'), 0
    local place = record and not text and place_of(record)
    if place then
        text = text_at(place.stream, place.id)
        held = holder_of(place.stream, place.id) and 1 or 0
    end
    if text then
        found[#found + 1] = held
        found[#found + 1] = text
    end
end
return found
