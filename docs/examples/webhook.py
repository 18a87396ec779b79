"""A receiver of callbacks, which believes only what is signed with our secret.

Start it: python webhook.py 9000
with ASYNCSVC_WEBHOOK_SECRET set as for the service; then submit a task with
"callback_url": "http://127.0.0.1:9000/", which the service calls when [webhooks] of its settings
has allow = ["127.0.0.1/32"].
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

KEY = base64.b64decode(os.environ["ASYNCSVC_WEBHOOK_SECRET"].split()[0].removeprefix("whsec_"))
seen = set()  # in earnest a table, kept for a few days


def genuine(headers, body: bytes) -> bool:
    """Whether our service has signed exactly these bytes, and not long ago."""
    name, stamp = headers["webhook-id"] or "", headers["webhook-timestamp"] or ""
    signed = hmac.digest(KEY, f"{name}.{stamp}.".encode() + body, hashlib.sha256)
    wanted = "v1," + base64.b64encode(signed).decode()
    given = (headers["webhook-signature"] or "").split()  # one for each secret of the service
    fresh = stamp.isdecimal() and abs(time.time() - int(stamp)) < 300
    return fresh and any(hmac.compare_digest(wanted.encode(), one.encode()) for one in given)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if genuine(self.headers, body):
            self.send_response(204)
            if self.headers["webhook-id"] not in seen:  # a repeated delivery has the same id
                seen.add(self.headers["webhook-id"])
                task = json.loads(body)
                print(task["task_id"], task["status"], task["result"], flush=True)
        else:
            self.send_response(401)
        self.end_headers()


server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
print(f"listening on http://127.0.0.1:{server.server_address[1]}/", flush=True)
server.serve_forever()
