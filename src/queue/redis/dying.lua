-- The texts of jobs that are about to die; nothing for those that are not held, or that were pushed again meanwhile.
-- ARGV: stream and id of each.

local texts = {}
for n = 1, #ARGV, 2 do
    local stream, id = tonumber(ARGV[n]), ARGV[n + 1]
    local text = text_at(stream, id)
    local place = text and place_at(redis.call('HGET', JOBS, key_of(text)), stream, id)
    texts[#texts + 1] = place and not place.again and text or false
end
return texts
