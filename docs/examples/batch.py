"""A batch: a file of requests goes in, a file of answers comes out, whatever happens in between.

Start it: pip install openai; python batch.py "What is HTTP?" "What is TCP?"

Each line is a task of its own in the lane `long`. The batch goes on over restarts of the service.
"""

import json
import os
import sys
import time

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("ASYNCSVC_URL", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("ASYNCSVC_TOKEN", "none"),
)
lines = [
    {
        "custom_id": f"question-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "auto", "messages": [{"role": "user", "content": prompt}]},
    }
    for number, prompt in enumerate(sys.argv[1:], 1)
]
text = "\n".join(map(json.dumps, lines)).encode()
file = client.files.create(file=("lines.jsonl", text), purpose="batch")
batch = client.batches.create(
    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
)
while batch.status in ("validating", "in_progress", "finalizing"):
    time.sleep(0.5)
    batch = client.batches.retrieve(batch.id)
print(batch.status, batch.request_counts, file=sys.stderr)
# In order of their end: go by custom_id. What failed is in the file batch.error_file_id.
if batch.output_file_id:
    for line in client.files.content(batch.output_file_id).text.splitlines():
        answer = json.loads(line)
        message = answer["response"]["body"]["choices"][0]["message"]
        print(answer["custom_id"], message["content"], sep="\t")
