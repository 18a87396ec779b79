// Follow a task, with every token as it comes, across any break of the connection or the service.
//
// Start it: node follow.mjs ID
//
// Each event has a number. After a break the stream goes on behind the last number that was seen, so that
// nothing is missing and nothing comes twice.
import { setTimeout as sleep } from "node:timers/promises";

const url = process.env.ASYNCSVC_URL ?? "http://127.0.0.1:8000";
const final = ["completed", "failed", "cancelled"];
const token = `Bearer ${process.env.ASYNCSVC_TOKEN ?? "none"}`;

async function* lines(stream) {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop(); // a line that has no end yet
    yield* parts;
  }
}

async function* events(id) {
  let seen = "0";
  for (;;) {
    const headers = { Authorization: token, Accept: "text/event-stream", "Last-Event-ID": seen };
    try {
      const answer = await fetch(`${url}/tasks/${id}/events`, { headers });
      if (answer.status >= 400 && answer.status < 500) throw new RangeError(await answer.text());
      for await (const line of lines(answer.body)) {
        if (!line.startsWith("data: ")) continue;
        const event = JSON.parse(line.slice(6));
        yield event;
        if (event.seq !== null) seen = String(event.seq); // what is live only has no number
        if (event.type === "status" && final.includes(event.data.status)) return;
      }
    } catch (error) {
      if (error instanceof RangeError) throw error; // such as 404: there is no such task
    }
    await sleep(500); // and come back
  }
}

for await (const { type, data } of events(process.argv[2])) {
  if (type === "attempt" && data.number > 1) process.stdout.write("\n[starts anew]\n");
  if (type === "chunk") process.stdout.write(data.text);
  if (type === "status") process.stderr.write(`\n[${data.status}]\n`);
}
