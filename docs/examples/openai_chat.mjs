// OpenAI's API with its own SDK: only `baseURL` is another. The answer comes as a stream.
//
// Start it: npm install openai; node openai_chat.mjs "What is a queue?"
//
// Each call waits its turn under the limits of the accounts, in place of a 429.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: `${process.env.ASYNCSVC_URL ?? "http://127.0.0.1:8000"}/v1`,
  apiKey: process.env.ASYNCSVC_TOKEN ?? "none",
});
const stream = await client.chat.completions.create(
  {
    model: "auto", // or the name of a model of the settings
    messages: [{ role: "user", content: process.argv[2] }],
    stream: true,
  },
  { headers: { "x-lane": "priority" } }, // where it queues: priority, short, long
);
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
console.log();
