-- Takes back entries of one stream that nobody has renewed for some time, and puts them before their lane. A job that has
-- crashed too many workers stays pending, for a letter to be written first.
-- ARGV: sender, stream, idle time in ms, where to go on, how many, crashes that are too many, idle time of a consumer in ms.
-- Returns where to go on, how many were taken back, and id and text of those to be buried.

local sender, stream, idle, from, count = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local cap, consumer_idle = tonumber(ARGV[6]), tonumber(ARGV[7])

local function lose(job, place)
    job.losses = job.losses + 1
    local lane, again = lane_of(stream), place and place.again
    if place and place.started then
        job.crashes = job.crashes + 1
    end
    if again then
        job.payload, job.due, lane = again.payload, earlier(job.due, again.at), math.min(lane, again.lane)
    end
    return lane
end

-- Workers that are gone leave their consumers behind. One that is merely idle gets another when it comes back.
local function remove_consumers()
    for _, found in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[stream], GROUP)) do
        local consumer = {}
        for n = 1, #found, 2 do
            consumer[found[n]] = found[n + 1]
        end
        if consumer.pending == 0 and consumer.idle >= consumer_idle then
            redis.call('XGROUP', 'DELCONSUMER', KEYS[stream], GROUP, consumer.name)
        end
    end
end

if redis.call('EXISTS', KEYS[stream]) == 0 then
    return { '0-0', 0, {} }
end
local found = redis.pcall('XAUTOCLAIM', KEYS[stream], GROUP, 'rescue', idle, from, 'COUNT', count)
if found.err then
    -- Nobody has claimed from it yet.
    if string.find(found.err, 'NOGROUP') then
        return { '0-0', 0, {} }
    end
    error(found)
end

local dead, gone = {}, {}
for _, entry in ipairs(found[2]) do
    local id, text = entry[1], entry[2][2]
    local job = job_of(text)
    local place = job and place_at(redis.call('HGET', JOBS, job.key), stream, id)
    local lane = job and lose(job, place)
    if job and place and place.started and tonumber(job.crashes) >= cap then
        dead[#dead + 1] = id
        dead[#dead + 1] = text_of(job)
    else
        if job then
            put_into(front_of(lane), job)
        end
        gone[#gone + 1] = id
    end
end
if #gone > 0 then
    redis.call('XACK', KEYS[stream], GROUP, unpack(gone))
    redis.call('XDEL', KEYS[stream], unpack(gone))
    ring(sender, true)
end
if found[1] == '0-0' then
    remove_consumers()
end
return { found[1], #gone, dead }
