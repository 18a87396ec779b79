// An agent that may read by itself, and waits for your approval before it writes a file.
//
// Start it: node agent.mjs "Write a haiku about queues into haiku.txt"
//
// It shows what the model says and which tools it calls, and asks you before each writing call. It waits
// as long as you like, also over a restart of the service.
import { createInterface } from "node:readline";

const url = process.env.ASYNCSVC_URL ?? "http://127.0.0.1:8000";
const headers = { Authorization: `Bearer ${process.env.ASYNCSVC_TOKEN ?? "none"}` };
const person = createInterface({ input: process.stdin });
const answers = person[Symbol.asyncIterator]();

async function post(path, body) {
  const answer = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

const { task_id: id } = await post("/tasks", {
  type: "agent",
  content: process.argv[2],
  tools: ["read_file", "list_directory", "write_file"],
  approve: ["write_file"],
  max_steps: 10,
});
const stream = await fetch(`${url}/tasks/${id}/events`, { headers: { ...headers, Accept: "text/event-stream" } });
let rest = "";
for await (const text of stream.body.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop();
  for (const line of lines.filter((each) => each.startsWith("data: "))) {
    const { type, data } = JSON.parse(line.slice(6));
    if (type === "chunk") process.stdout.write(data.text);
    if (type === "tool_call") console.log(`\n> ${data.name} ${JSON.stringify(data.arguments)}`);
    if (type === "approval" && !("decision" in data)) {
      process.stdout.write("Let it? [y/N] ");
      const yes = (await answers.next()).value?.trim().toLowerCase() === "y";
      await post(`/tasks/${id}/${yes ? "approve" : "deny"}`, { id: data.id });
    }
  }
}
person.close();
const { files } = await (await fetch(`${url}/tasks/${id}/files`, { headers })).json();
console.log("\nfiles:", files.map((file) => file.path).join(", ") || "none");
