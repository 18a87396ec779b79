#!/bin/sh
# OpenAI's API by curl. The answer comes as a stream of events, as OpenAI sends them.
#
# Start it: sh openai_chat.sh '[{"role": "user", "content": "What is a queue?"}]'
#
# Each call waits its turn under the limits of the accounts, in place of a 429.
set -eu
url=${ASYNCSVC_URL:-http://127.0.0.1:8000}
# x-lane says where it queues: priority, short, long.
curl -sSN --fail-with-body "$url/v1/chat/completions" \
    -H "Authorization: Bearer ${ASYNCSVC_TOKEN:-none}" -H "x-lane: priority" \
    -d "{\"model\": \"auto\", \"stream\": true, \"messages\": $1}"
