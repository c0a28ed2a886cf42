-- Makes leases last on from now, for whoever holds them, without counting it as a delivery.
-- ARGV: stream and id of each. Returns 1 for each that is held, else 0.

local renewed = {}
for n = 1, #ARGV, 2 do
    local stream, id = tonumber(ARGV[n]), ARGV[n + 1]
    local worker = holder_of(stream, id)
    if worker then
        redis.call('XCLAIM', KEYS[stream], GROUP, worker, 0, id, 'JUSTID')
    end
    renewed[#renewed + 1] = worker and 1 or 0
end
return renewed
