"""Follow a task, with every token as it comes, across any break of the connection or the service.

Start it: python follow.py ID

Each event has a number. After a break the stream goes on behind the last number that was seen, so
that nothing is missing and nothing comes twice.
"""

import json
import os
import sys
import time
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

URL = os.environ.get("ASYNCSVC_URL", "http://127.0.0.1:8000")
FINAL = ("completed", "failed", "cancelled")
HEADERS = {"Authorization": "Bearer " + os.environ.get("ASYNCSVC_TOKEN", "none")}


def events(task_id: str):
    """The events of a task, to the end of the task."""
    seen = "0"
    while True:
        headers = HEADERS | {"Accept": "text/event-stream", "Last-Event-ID": seen}
        try:
            with urlopen(Request(f"{URL}/tasks/{task_id}/events", headers=headers)) as stream:
                for line in stream:
                    if not line.startswith(b"data: ") or not line.endswith(b"\n"):
                        continue  # the connection broke within the line
                    event = json.loads(line[6:])
                    yield event
                    if event["seq"] is not None:  # what is live only has no number
                        seen = str(event["seq"])
                    if event["data"].get("status") in FINAL and event["type"] == "status":
                        return
        except HTTPError as error:
            if error.code < 500:  # such as 404: there is no such task
                sys.exit(error.read().decode())
        except (OSError, HTTPException):
            pass
        time.sleep(0.5)  # and come back


for event in events(sys.argv[1]):
    if event["type"] == "attempt" and event["data"]["number"] > 1:
        print("\n[starts anew]")
    elif event["type"] == "chunk":
        print(event["data"]["text"], end="", flush=True)
    elif event["type"] == "status":
        print(f"\n[{event['data']['status']}]", file=sys.stderr)
