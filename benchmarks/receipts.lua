-- For wrk with one thread: each request is a different receipt, and the results are one JSON object.
-- Argument: the path with its query, to which a number is appended.
local number = 0

function init(args)
   target = args[1]
end

function request()
   number = number + 1
   return wrk.format("GET", target .. number)
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format('{"answers": %d, "microseconds": %d, "others": %d, "cut": %d}\n', summary.requests,
      summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
