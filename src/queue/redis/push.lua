-- Puts jobs on, each joining the one of its key that is there already.
-- ARGV: now, sender, and for each job its lane and text. No key is there twice.

local now, sender, due_now = tonumber(ARGV[1]), ARGV[2], false

-- It is due later. The later payload, the earlier time, the better lane.
local function join_later(old_lane, old, lane, pushed)
    old.payload, old.due = pushed.payload, earlier(old.due, pushed.due)
    lane = math.min(lane, old_lane)
    local is_due = put_when_due(lane, old, now)
    if is_due or lane ~= old_lane then
        redis.call('ZREM', later_of(old_lane), old.key)
    end
    due_now = due_now or is_due
end

-- It waits. An entry cannot be changed, so a change puts it elsewhere: into the better lane, or before its own. Since when
-- it has been due is no reason to move it.
local function join_waiting(place, old, lane, pushed)
    local old_lane = lane_of(place.stream)
    if lane >= old_lane and pushed.payload == old.payload then
        return
    end
    old.payload, old.due = pushed.payload, earlier(old.due, pushed.due)
    put_into(lane < old_lane and lane_itself(lane) or front_of(old_lane), old)
    redis.call('XDEL', KEYS[place.stream], place.id)
    due_now = true
end

-- It is held and cannot be touched: the push takes effect when it is stored what came of the run.
local function join_held(record, place, lane, pushed)
    local again = place.again or { at = pushed.due, lane = lane }
    local entry = string.match(record, '^%S+')
    local at = earlier(again.at, pushed.due)
    local joined = table.concat({ entry, at, math.min(again.lane, lane), pushed.payload }, ' ')
    redis.call('HSET', JOBS, pushed.key, joined)
end

local function join(record, lane, pushed)
    local old_lane, old = string.match(record, '^later (%d) (.*)$')
    if old_lane then
        return join_later(tonumber(old_lane), job_of(old), lane, pushed)
    end
    local place = place_of(record)
    local text = place and text_at(place.stream, place.id)
    if not text then
        -- Somebody has deleted the entry alone.
        due_now = put_when_due(lane, pushed, now) or due_now
    elseif holder_of(place.stream, place.id) then
        join_held(record, place, lane, pushed)
    else
        join_waiting(place, job_of(text), lane, pushed)
    end
end

local keys, dues = {}, {}
for n = 4, #ARGV, 2 do
    keys[#keys + 1], dues[#dues + 1] = string.match(ARGV[n], '^(%S+ %S+) (%-?%d+)')
end

local fresh = {}
for n, record in ipairs(redis.call('HMGET', JOBS, unpack(keys))) do
    local lane, text = tonumber(ARGV[1 + 2 * n]), ARGV[2 + 2 * n]
    if record then
        join(record, lane, job_of(text))
    elseif tonumber(dues[n]) <= now then
        local stream = lane_itself(lane)
        fresh[#fresh + 1] = keys[n]
        fresh[#fresh + 1] = stream .. ':' .. redis.call('XADD', KEYS[stream], '*', 'job', text)
        due_now = true
    else
        redis.call('ZADD', later_of(lane), dues[n], keys[n])
        fresh[#fresh + 1] = keys[n]
        fresh[#fresh + 1] = 'later ' .. lane .. ' ' .. text
        note_later(lane, dues[n])
    end
end
if #fresh > 0 then
    redis.call('HSET', JOBS, unpack(fresh))
end
ring(sender, due_now)
