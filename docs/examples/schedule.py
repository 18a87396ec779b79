"""A task every weekday at nine in Berlin; summer time is taken care of.

Start it: python schedule.py "What is new?"

The schedule has a name, so that starting this again changes it and makes no second one. What was
missed while the service was stopped is made up for by one task. `unschedule ID` ends it.
"""

import json
import os
import sys
from urllib.request import Request, urlopen

URL = os.environ.get("ASYNCSVC_URL", "http://127.0.0.1:8000")
HEADERS = {"Authorization": "Bearer " + os.environ.get("ASYNCSVC_TOKEN", "none")}

wanted = {
    "name": "weekday-news",
    "cron": "0 9 * * 1-5",
    "timezone": "Europe/Berlin",
    "task": {"content": sys.argv[1], "lane": "long"},
}
request = Request(URL + "/schedules", json.dumps(wanted).encode(), HEADERS)
with urlopen(request) as answer:
    schedule = json.load(answer)
print(schedule["schedule_id"], "next:", schedule["next_run_at"])
