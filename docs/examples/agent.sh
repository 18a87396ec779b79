#!/bin/sh
# An agent that may read by itself, and waits for your approval before it writes a file.
#
# Start it: sh agent.sh '"Write a haiku about queues into haiku.txt"'     (the prompt as a JSON string)
#
# Prints its events as JSON lines, and asks you before each writing call. It waits as long as you
# like, also over a restart of the service.
set -eu
url=${ASYNCSVC_URL:-http://127.0.0.1:8000}
call() { curl -sSN --fail-with-body -H "Authorization: Bearer ${ASYNCSVC_TOKEN:-none}" "$@"; }

exec 3<&0 # the person, while the events are read from a pipe
id=$(call "$url/tasks" -d "{\"type\": \"agent\", \"content\": $1, \"max_steps\": 10,
    \"tools\": [\"read_file\", \"list_directory\", \"write_file\"], \"approve\": [\"write_file\"]}" |
    sed 's/.*"task_id": *"\([^"]*\)".*/\1/')
call -H "Accept: text/event-stream" "$url/tasks/$id/events" | while read -r name value; do
    [ "$name" = data: ] || continue
    echo "$value"
    case $value in
    *'"decision":'*) ;;
    *'"type":"approval"'*)
        printf 'Let it? [y/N] '
        read -r answer <&3 || answer=n
        if [ "$answer" = y ]; then decision=approve; else decision=deny; fi
        call -o /dev/null -X POST "$url/tasks/$id/$decision"
        ;;
    esac
done
call "$url/tasks/$id/files"
