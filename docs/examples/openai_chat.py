"""OpenAI's API with its own SDK: only `base_url` is another. The answer comes as a stream.

Start it: pip install openai; python openai_chat.py "What is a queue?"

Each call waits its turn under the limits of the accounts, in place of a 429.
"""

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("ASYNCSVC_URL", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("ASYNCSVC_TOKEN", "none"),
)
stream = client.chat.completions.create(
    model="auto",  # or the name of a model of the settings
    messages=[{"role": "user", "content": sys.argv[1]}],
    stream=True,
    extra_headers={"x-lane": "priority"},  # where it queues: priority, short, long
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
