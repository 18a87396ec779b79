"""Submit a task so that nothing can lose it, and wait for its answer.

Start it: python submit.py "What is a queue?"

Once the service has answered, the task is on its disk. If that answer is lost on its way, the same
request is sent again: the Idempotency-Key makes it find the task that is there already.
"""

import json
import os
import sys
import time
import uuid
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

URL = os.environ.get("ASYNCSVC_URL", "http://127.0.0.1:8000")
HEADERS = {"Authorization": "Bearer " + os.environ.get("ASYNCSVC_TOKEN", "none")}


def submit(task: dict) -> str:
    """The id of the task, which is durable from now on."""
    headers = HEADERS | {"Idempotency-Key": str(uuid.uuid4())}
    while True:
        try:
            with urlopen(Request(URL + "/tasks", json.dumps(task).encode(), headers)) as answer:
                return json.load(answer)["task_id"]
        except HTTPError as error:
            wait = error.headers.get("Retry-After")  # the service says when it is worth it
            if wait is None:
                sys.exit(error.read().decode())
            time.sleep(float(wait))
        except (URLError, ConnectionError):
            time.sleep(1)


task_id = submit({"content": sys.argv[1]})
print(task_id, file=sys.stderr)
# This stream ends when the task has ended. It may be left and come back to: see follow.py.
events = HEADERS | {"Accept": "text/event-stream"}
urlopen(Request(f"{URL}/tasks/{task_id}/events", headers=events)).read()
task = json.load(urlopen(Request(f"{URL}/tasks/{task_id}", headers=HEADERS)))
if task["status"] != "completed":
    sys.exit(f"{task['status']}: {task['error']}")
print(task["result"])
