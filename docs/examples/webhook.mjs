// A receiver of callbacks, which believes only what is signed with our secret.
//
// Start it: node webhook.mjs 9000
// with ASYNCSVC_WEBHOOK_SECRET set as for the service; then submit a task with
// "callback_url": "http://127.0.0.1:9000/", which the service calls when [webhooks] of its settings
// has allow = ["127.0.0.1/32"].
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = process.env.ASYNCSVC_WEBHOOK_SECRET.split(" ")[0].replace(/^whsec_/, "");
const key = Buffer.from(secret, "base64");
const seen = new Set(); // in earnest a table, kept for a few days

// Whether our service has signed exactly these bytes, and not long ago.
function genuine(headers, body) {
  const stamp = headers["webhook-timestamp"] ?? "";
  const hmac = createHmac("sha256", key).update(`${headers["webhook-id"]}.${stamp}.`).update(body);
  const wanted = Buffer.from(`v1,${hmac.digest("base64")}`);
  const given = (headers["webhook-signature"] ?? "").split(" ").map((one) => Buffer.from(one));
  const fresh = Math.abs(Date.now() / 1000 - Number(stamp)) < 300; // false for what is no number
  return fresh && given.some((one) => one.length === wanted.length && timingSafeEqual(one, wanted));
}

const server = createServer(async (request, answer) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = Buffer.concat(parts);
  if (!genuine(request.headers, body)) return answer.writeHead(401).end();
  answer.writeHead(204).end();
  if (seen.has(request.headers["webhook-id"])) return; // a repeated delivery has the same id
  seen.add(request.headers["webhook-id"]);
  const { task_id, status, result } = JSON.parse(body);
  console.log(task_id, status, result);
});
server.listen(Number(process.argv[2]), "127.0.0.1", () =>
  console.log(`listening on http://127.0.0.1:${server.address().port}/`),
);
