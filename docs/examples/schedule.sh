#!/bin/sh
# A task every weekday at nine in Berlin; summer time is taken care of.
#
# Start it: sh schedule.sh '{"content": "What is new?", "lane": "long"}'
#
# The schedule has a name, so that starting this again changes it and makes no second one. What was missed
# while the service was stopped is made up for by one task. `unschedule ID` ends it.
set -eu
url=${ASYNCSVC_URL:-http://127.0.0.1:8000}
curl -sS --fail-with-body -H "Authorization: Bearer ${ASYNCSVC_TOKEN:-none}" "$url/schedules" \
    -d "{\"name\": \"weekday-news\", \"cron\": \"0 9 * * 1-5\", \"timezone\": \"Europe/Berlin\", \"task\": $1}"
