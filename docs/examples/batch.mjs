// A batch: a file of requests goes in, a file of answers comes out, whatever happens in between.
//
// Start it: node batch.mjs "What is HTTP?" "What is TCP?"
//
// Each line is a task of its own in the lane `long`. The batch goes on over restarts of the service.
import { setTimeout as sleep } from "node:timers/promises";

const url = process.env.ASYNCSVC_URL ?? "http://127.0.0.1:8000";
const headers = { Authorization: `Bearer ${process.env.ASYNCSVC_TOKEN ?? "none"}` };

async function call(path, request = {}) {
  const answer = await fetch(`${url}/v1${path}`, { ...request, headers });
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

const lines = process.argv.slice(2).map((content, index) =>
  JSON.stringify({
    custom_id: `question-${index + 1}`,
    method: "POST",
    url: "/v1/chat/completions",
    body: { model: "auto", messages: [{ role: "user", content }] },
  }),
);
const form = new FormData();
form.append("purpose", "batch");
form.append("file", new Blob([lines.join("\n")]), "lines.jsonl");
const file = await (await call("/files", { method: "POST", body: form })).json();
const wanted = { input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" };
let batch = await (await call("/batches", { method: "POST", body: JSON.stringify(wanted) })).json();
while (["validating", "in_progress", "finalizing"].includes(batch.status)) {
  await sleep(500);
  batch = await (await call(`/batches/${batch.id}`)).json();
}
console.error(batch.status, batch.request_counts);
// In order of their end: go by custom_id. What failed is in the file batch.error_file_id.
if (batch.output_file_id) {
  const text = await (await call(`/files/${batch.output_file_id}/content`)).text();
  for (const line of text.trim().split("\n")) {
    const { custom_id, response } = JSON.parse(line);
    console.log(`${custom_id}\t${response.body.choices[0].message.content}`);
  }
}
