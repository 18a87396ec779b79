#!/bin/sh
# Submit a task so that nothing can lose it, and wait for its answer.
#
# Start it: sh submit.sh '{"content": "What is a queue?"}'
#
# Once the service has answered, the task is on its disk. curl sends the request again where the answer is
# lost; the Idempotency-Key makes a repeated one find the task that is there already.
set -eu
url=${ASYNCSVC_URL:-http://127.0.0.1:8000}
token="Authorization: Bearer ${ASYNCSVC_TOKEN:-none}"

# The head names the new task: "Location: /tasks/ID".
location=$(curl -sS --fail-with-body --retry 5 --retry-all-errors -D - -o /dev/null -H "$token" \
    -H "Idempotency-Key: $(date +%s)-$$" "$url/tasks" -d "$1" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
echo "$location" >&2
# This stream ends when the task has ended. It may be left and come back to: see follow.sh.
curl -sSN -o /dev/null -H "$token" -H "Accept: text/event-stream" "$url$location/events"
curl -sS --fail-with-body -H "$token" "$url$location"
