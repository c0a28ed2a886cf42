-- Stores what came of jobs.
-- ARGV: now, sender, and for each job its stream, its id, a verb and a time.
--
--   over      it is forgotten; pushed again meanwhile, it starts over
--   dropped   it is forgotten in any case
--   retried   it waits until the time, with one attempt more
--   snoozed   it waits until the time
--   returned  it waits before its lane, as if it had never been claimed
--
-- Behind a job that waits again, a push that came meanwhile is a push like any other: the later payload, the earlier time,
-- the better lane. Returns how many wait again.

local now, sender, due_now = tonumber(ARGV[1]), ARGV[2], false

local function start_over(key, again)
    local job = { key = key, due = again.at, attempts = 0, losses = 0, crashes = 0, payload = again.payload }
    due_now = put_when_due(again.lane, job, now) or due_now
end

local function wait_again(one, again)
    local job, lane = job_of(one.text), lane_of(one.stream)
    if one.verb == 'retried' then
        job.attempts = job.attempts + 1
    end
    if one.verb ~= 'returned' then
        job.due = one.at
    end
    if again then
        job.payload, job.due, lane = again.payload, earlier(job.due, again.at), math.min(lane, again.lane)
    end
    if one.verb == 'returned' then
        put_into(front_of(lane), job)
        due_now = true
    else
        due_now = put_when_due(lane, job, now) or due_now
    end
end

local held, keys = {}, {}
for n = 3, #ARGV, 4 do
    local stream, id = tonumber(ARGV[n]), ARGV[n + 1]
    local text = text_at(stream, id)
    if text then
        -- What is none of ours has no key, and no record under this one.
        keys[#keys + 1] = key_of(text) or ''
        held[#held + 1] = { stream = stream, id = id, text = text, verb = ARGV[n + 2], at = ARGV[n + 3] }
    end
end
if #held == 0 then
    return 0
end

local forgotten, gone = {}, { {}, {}, {}, {} }
for n, record in ipairs(redis.call('HMGET', JOBS, unpack(keys))) do
    local one = held[n]
    local ids = gone[one.stream]
    ids[#ids + 1] = one.id
    local ends = one.verb == 'over' or one.verb == 'dropped'
    if ends and record == one.stream .. ':' .. one.id then
        -- Nearly all of them.
        forgotten[#forgotten + 1] = keys[n]
    else
        local place = place_at(record, one.stream, one.id)
        if not ends then
            wait_again(one, place and place.again)
        elseif place and place.again and one.verb == 'over' then
            start_over(keys[n], place.again)
        elseif place then
            forgotten[#forgotten + 1] = keys[n]
        end
    end
end
for stream, ids in ipairs(gone) do
    if #ids > 0 then
        redis.call('XACK', KEYS[stream], GROUP, unpack(ids))
        redis.call('XDEL', KEYS[stream], unpack(ids))
    end
end
if #forgotten > 0 then
    redis.call('HDEL', JOBS, unpack(forgotten))
end
ring(sender, due_now)
return put
