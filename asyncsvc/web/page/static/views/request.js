/**
 * What was asked, in full: the text or the messages, and every other field; and the same as a curl
 * command.
 */
import { bytes, visible } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { Copy } from "../core/parts.js";
import { t } from "../core/text.js";

const SHOWN = 20000;
const FIELDS = [
  "content", "messages", "input", "type", "model", "lane", "priority", "params", "tools", "max_steps", "token_budget",
  "approve", "files", "session_id", "timeout_s", "max_retries", "cache", "callback_url", "retry_unsafe",
];
/** What a task has where nothing was said. @type {Record<string, any>} */
const USUAL = { type: "chat", lane: "short", priority: 5, retry_unsafe: false };

/** The text that was asked, for a title. @param {any} whole */
export function plainText(whole) {
  if (!whole) {
    return "";
  }
  if (typeof whole.content === "string") {
    return whole.content;
  }
  const last = whole.messages?.findLast((/** @type {any} */ message) => message.role === "user") ?? whole.messages?.at(-1);
  const { content } = last ?? {};
  if (Array.isArray(content)) {
    return content.map((part) => part.text ?? "").join("\n");
  }
  const first = Array.isArray(whole.input) ? whole.input[0] : whole.input;
  return typeof content === "string" ? content : typeof first === "string" ? first : "";
}

/** The fields of a submit that make the same task. @param {any} whole */
export function submission(whole) {
  const given = FIELDS.filter((name) => whole?.[name] != null && whole[name] !== USUAL[name]);
  const fields = Object.fromEntries(given.map((name) => [name, whole[name]]));
  return whole?.user_metadata ? { ...fields, metadata: whole.user_metadata } : fields;
}

/** @param {any} whole */
export function curl(whole) {
  const body = JSON.stringify(submission(whole)).replaceAll("'", "'\\''");
  return `curl -sS ${location.origin}/tasks -H 'content-type: application/json' -H "authorization: Bearer $ASYNCSVC_TOKEN" -d '${body}'`;
}

/** @param {{title: string, text: string}} props */
function Text({ title, text }) {
  const [all, setAll] = useState(text.length <= SHOWN);
  return html`<section class="block code">
    <header><b>${title}</b><span class="end">${bytes(new Blob([text]).size)}<${Copy} text=${text} /></span></header>
    <pre tabindex="0" class="wraps" dir="auto">${visible(all ? text : text.slice(0, SHOWN))}</pre>
    ${!all && html`<button type="button" class="fold" onClick=${() => setAll(true)}>${t("core.show_all")}</button>`}
  </section>`;
}

/** @param {any} message */
function messageText({ content, tool_calls: calls }) {
  const text = typeof content === "string" ? content : content == null ? "" : JSON.stringify(content, null, 2);
  return calls ? `${text}${text && "\n"}${JSON.stringify(calls, null, 2)}` : text;
}

/** @param {{whole: any}} props */
export function RequestView({ whole }) {
  if (!whole) {
    return html`<div class="log flow"><p class="empty-log ink3">${t("task.reading")}</p></div>`;
  }
  const { content, messages, input, ...others } = submission(whole);
  const rest = JSON.stringify(others, null, 2);
  return html`<div class="log flow" tabindex="0">
    ${typeof content === "string" && html`<${Text} title="content" text=${content} />`}
    ${messages?.map((/** @type {any} */ message, /** @type {number} */ at) => html`<${Text} key=${at} title=${message.role} text=${messageText(message)} />`)}
    ${input != null && html`<${Text} title="input" text=${typeof input === "string" ? input : JSON.stringify(input, null, 2)} />`}
    ${rest !== "{}" && html`<${Text} title=${t("task.fields")} text=${rest} />`}
    <${Text} title="curl" text=${curl(whole)} />
  </div>`;
}
