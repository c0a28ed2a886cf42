-- What the scripts of the engine share. Each is about one pool, whose keys they all get in the same order:
--
--   KEYS[1], KEYS[2]  streams of the interactive lane: its front, read first, and the lane itself
--   KEYS[3], KEYS[4]  the same of the bulk lane
--   KEYS[5], KEYS[6]  sorted sets of what is due later, interactive and bulk, by the time in ms
--   KEYS[7]           hash: the one place of each job, see below
--   KEYS[8]           there while the bell has rung for all who rest; also the name of the bell's channel
--
-- Lanes are 1 and 2, streams 1 to 4. A job is one text, here as in an entry: key, due, attempts, losses, crashes, payload.
-- Its key is its kind and subject, and what the hash has under it is one of
--
--   stream:id                           it waits in this entry, or is held with it
--   stream:id!                          it is held, and its start is recorded
--   stream:id at lane payload           it is held and was pushed again (the `!` may be there too)
--   later lane text                     it is due later
--
-- Redis refuses what takes memory when there is none left, and does so from the first such command of a script on or not
-- at all. So every script puts things in their new place before it takes them from the old one.

local GROUP, JOBS, BELL = 'workers', KEYS[7], KEYS[8]

local function key_of(text)
    return string.match(text, '^%S+ %S+')
end

local function job_of(text)
    local key, due, attempts, losses, crashes, payload =
        string.match(text, '^(%S+ %S+) (%-?%d+) (%d+) (%d+) (%d+) (.*)$')
    return key and
        { key = key, due = due, attempts = attempts, losses = losses, crashes = crashes, payload = payload }
end

local function text_of(job)
    return table.concat({ job.key, job.due, job.attempts, job.losses, job.crashes, job.payload }, ' ')
end

local function lane_of(stream)
    return math.ceil(stream / 2)
end

local function lane_itself(lane)
    return 2 * lane
end

local function front_of(lane)
    return 2 * lane - 1
end

local function later_of(lane)
    return KEYS[4 + lane]
end

local function earlier(one, other)
    return tonumber(one) <= tonumber(other) and one or other
end

-- The text of an entry; nil when it is gone.
local function text_at(stream, id)
    local entry = redis.call('XRANGE', KEYS[stream], id, id)[1]
    return entry and entry[2][2]
end

-- Who holds an entry; nil when nobody does.
local function holder_of(stream, id)
    local held = redis.pcall('XPENDING', KEYS[stream], GROUP, id, id, 1)
    return not held.err and held[1] and held[1][2] or nil
end

-- What a record says of a job that is in a stream.
local function place_of(record)
    local stream, id, started, rest = string.match(record, '^(%d):(%d+%-%d+)(!?)(.*)$')
    if not stream then
        return nil
    end
    local at, lane, payload = string.match(rest, '^ (%-?%d+) (%d) (.*)$')
    local again = at and { at = at, lane = tonumber(lane), payload = payload }
    return { stream = tonumber(stream), id = id, started = started == '!', again = again }
end

-- The record of an entry; nil when that has none, or one about another entry.
local function place_at(record, stream, id)
    local place = record and place_of(record)
    return place and place.stream == stream and place.id == id and place or nil
end

local put, soonest = 0, {}

local function put_into(stream, job)
    local id = redis.call('XADD', KEYS[stream], '*', 'job', text_of(job))
    redis.call('HSET', JOBS, job.key, stream .. ':' .. id)
    put = put + 1
end

-- The earliest time that this script has put into a lane's later set.
local function note_later(lane, due)
    soonest[lane] = soonest[lane] and math.min(soonest[lane], due) or tonumber(due)
    put = put + 1
end

local function put_later(lane, job)
    redis.call('ZADD', later_of(lane), job.due, job.key)
    redis.call('HSET', JOBS, job.key, 'later ' .. lane .. ' ' .. text_of(job))
    note_later(lane, job.due)
end

local function put_when_due(lane, job, now)
    if tonumber(job.due) <= now then
        put_into(lane_itself(lane), job)
        return true
    end
    put_later(lane, job)
end

local function is_next(lane, due)
    local head = redis.call('ZRANGE', later_of(lane), 0, 0, 'WITHSCORES')
    return tonumber(head[2]) == due
end

-- Rings when something is to be claimed, or to be waited for less long than those who rest believe. One ring is enough for
-- all who rest; who finds nothing more to claim lets the bell ring anew.
local function ring(sender, now_due)
    for lane, due in pairs(soonest) do
        now_due = now_due or is_next(lane, due)
    end
    if now_due and redis.call('SET', BELL, '1', 'NX') then
        redis.call('PUBLISH', BELL, sender)
    end
end
