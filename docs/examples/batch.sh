#!/bin/sh
# A batch: a file of requests goes in, a file of answers comes out, whatever happens in between.
#
# Start it: sh batch.sh lines.jsonl
# with lines as {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
#                "body": {"model": "auto", "messages": [{"role": "user", "content": "What is HTTP?"}]}}
#
# Each line is a task of its own in the lane `long`. The batch goes on over restarts of the service.
set -eu
url=${ASYNCSVC_URL:-http://127.0.0.1:8000}/v1
call() { curl -sS --fail-with-body -H "Authorization: Bearer ${ASYNCSVC_TOKEN:-none}" "$@"; }
field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"; } # of JSON in one line; jq does it better

file=$(call "$url/files" -F purpose=batch -F "file=@$1" | field id)
batch=$(call "$url/batches" \
    -d "{\"input_file_id\": \"$file\", \"endpoint\": \"/v1/chat/completions\", \"completion_window\": \"24h\"}" | field id)
while :; do
    answer=$(call "$url/batches/$batch")
    status=$(echo "$answer" | field status)
    case $status in validating | in_progress | finalizing) sleep 0.5 ;; *) break ;; esac
done
echo "$status" >&2
# In order of their end: go by custom_id. What failed is in the file of error_file_id.
call "$url/files/$(echo "$answer" | field output_file_id)/content"
