-- How much there is in each lane, from heads and counters alone.
-- ARGV: now. Returns for each lane: how many wait, how many of them are due, how many are held, and when the oldest that
-- waits in its streams and the first of the later ones are due.

local function group_of(stream)
    for _, found in ipairs(redis.call('XINFO', 'GROUPS', KEYS[stream])) do
        local group = {}
        for n = 1, #found, 2 do
            group[found[n]] = found[n + 1]
        end
        if group.name == GROUP then
            return group.pending, group['last-delivered-id']
        end
    end
    return 0, '0-0'
end

local function look(stream)
    local length = redis.call('XLEN', KEYS[stream])
    if length == 0 then
        return 0, 0, nil
    end
    local held, last = group_of(stream)
    local head = redis.call('XRANGE', KEYS[stream], '(' .. last, '+', 'COUNT', 1)[1]
    local job = head and job_of(head[2][2])
    return math.max(length - held, 0), held, job and job.due
end

local function depth(lane)
    local front, front_held, front_due = look(front_of(lane))
    local waiting, held, due = look(lane_itself(lane))
    local later = redis.call('ZCARD', later_of(lane))
    local later_due = later > 0 and redis.call('ZCOUNT', later_of(lane), '-inf', ARGV[1]) or 0
    local head = redis.call('ZRANGE', later_of(lane), 0, 0)[1]
    local head_due = head and redis.call('ZSCORE', later_of(lane), head)
    local oldest = front_due and due and earlier(front_due, due) or front_due or due
    return {
        front + waiting + later,
        front + waiting + later_due,
        front_held + held,
        oldest or false,
        head_due or false,
    }
end

return { depth(1), depth(2) }
