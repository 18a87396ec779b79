"""An agent that may read by itself, and waits for your approval before it writes a file.

Start it: python agent.py "Write a haiku about queues into haiku.txt"

It shows what the model says and which tools it calls, and asks you before each writing call. It
waits as long as you like, also over a restart of the service.
"""

import json
import os
import sys
from urllib.request import Request, urlopen

URL = os.environ.get("ASYNCSVC_URL", "http://127.0.0.1:8000")
HEADERS = {"Authorization": "Bearer " + os.environ.get("ASYNCSVC_TOKEN", "none")}


def post(path: str, body: dict) -> dict:
    with urlopen(Request(URL + path, json.dumps(body).encode(), HEADERS)) as answer:
        return json.load(answer)


task = {
    "type": "agent",
    "content": sys.argv[1],
    "tools": ["read_file", "list_directory", "write_file"],
    "approve": ["write_file"],
    "max_steps": 10,
}
path = "/tasks/" + post("/tasks", task)["task_id"]
stream = urlopen(Request(f"{URL}{path}/events", headers=HEADERS | {"Accept": "text/event-stream"}))
for line in stream:
    if not line.startswith(b"data: "):
        continue
    event = json.loads(line[6:])
    kind, data = event["type"], event["data"]
    if kind == "chunk":
        print(data["text"], end="", flush=True)
    elif kind == "tool_call":
        print(f"\n> {data['name']} {json.dumps(data['arguments'])}")
    elif kind == "approval" and "decision" not in data:
        yes = input("Let it? [y/N] ").strip().lower() == "y"
        post(f"{path}/{'approve' if yes else 'deny'}", {"id": data["id"]})
print()
files = json.load(urlopen(Request(f"{URL}{path}/files", headers=HEADERS)))["files"]
print("files:", ", ".join(file["path"] for file in files) or "none")
