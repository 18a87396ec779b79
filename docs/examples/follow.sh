#!/bin/sh
# Follow a task, with every event as it comes, across any break of the connection or the service.
#
# Start it: sh follow.sh ID
#
# Each event has a number. After a break the stream goes on behind the last number that was seen, so that
# nothing is missing and nothing comes twice. Prints the events as JSON lines.
set -eu
url=${ASYNCSVC_URL:-http://127.0.0.1:8000}
token="Authorization: Bearer ${ASYNCSVC_TOKEN:-none}"
seen=$(mktemp)
trap 'rm -f "$seen"' EXIT
echo 0 >"$seen"

until grep -q end "$seen"; do
    curl -sSN --fail -H "$token" -H "Accept: text/event-stream" -H "Last-Event-ID: $(cat "$seen")" \
        "$url/tasks/$1/events" | while read -r name value; do
        [ "$name" = data: ] || continue
        echo "$value"
        number=${value#*\"seq\":}
        number=${number%%,*}
        [ "$number" = null ] || echo "$number" >"$seen" # what is live only has no number
        case $value in
        *'"type":"status"'*'"status":"completed"'* | *'"type":"status"'*'"status":"failed"'* | \
            *'"type":"status"'*'"status":"cancelled"'*) echo end >"$seen" ;;
        esac
    done
    grep -q end "$seen" || sleep 0.5 # and come back
done
