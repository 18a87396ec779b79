// Submit a task so that nothing can lose it, and wait for its answer.
//
// Start it: node submit.mjs "What is a queue?"
//
// Once the service has answered, the task is on its disk. If that answer is lost on its way, the same
// request is sent again: the Idempotency-Key makes it find the task that is there already.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const url = process.env.ASYNCSVC_URL ?? "http://127.0.0.1:8000";
const headers = { Authorization: `Bearer ${process.env.ASYNCSVC_TOKEN ?? "none"}` };

async function submit(task) {
  const request = {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json", "Idempotency-Key": randomUUID() },
    body: JSON.stringify(task),
  };
  for (;;) {
    try {
      const answer = await fetch(`${url}/tasks`, request);
      if (answer.ok) return (await answer.json()).task_id;
      const wait = answer.headers.get("Retry-After"); // the service says when it is worth it
      if (wait === null) throw new RangeError(await answer.text());
      await sleep(Number(wait) * 1000);
    } catch (error) {
      if (error instanceof RangeError) throw error;
      await sleep(1000);
    }
  }
}

const id = await submit({ content: process.argv[2] });
console.error(id);
// This stream ends when the task has ended. It may be left and come back to: see follow.mjs.
await (await fetch(`${url}/tasks/${id}/events`, { headers: { ...headers, Accept: "text/event-stream" } })).text();
const task = await (await fetch(`${url}/tasks/${id}`, { headers })).json();
if (task.status !== "completed") throw new Error(`${task.status}: ${JSON.stringify(task.error)}`);
console.log(task.result);
