/**
 * A call of a tool in the log: what is run, its output as it comes, how it ended; and the question
 * to a person, where one must decide.
 */
import { seconds, visible } from "../core/format.js";
import { html, useLayoutEffect, useRef, useState } from "../core/html.js";
import { Copy, Sign, useNow } from "../core/parts.js";
import { t } from "../core/text.js";
import { Decide } from "./approval.js";
import { appendText } from "./code.js";
import { Diff, parseDiff } from "./diff.js";

/** @type {Record<string, [string, string]>} sign and its colour */
const SIGNS = {
  asked: ["pending", "pending"], approved: ["pending", "pending"], client: ["pending", "pending"],
  running: ["running", "running"], completed: ["completed", "completed"], failed: ["failed", "failed"],
  denied: ["cancelled", "cancelled"], skip: ["cancelled", "cancelled"], cut: ["cancelled", "cancelled"],
  rolled_back: ["cancelled", "cancelled"], needs_approval: ["call", "call"], needs_review: ["call", "call"],
};
const SHOWN_MOST = 200000;
// eslint-disable-next-line no-control-regex
const COLOURS = /\u001b\[[0-9;]*[A-Za-z]/g;

/** The arguments in one line: the path, the command, or all of them. @param {any} given */
export function summary(given) {
  if (given === null || typeof given !== "object") {
    return String(given ?? "");
  }
  const words = given.argv ?? given.args;
  if (Array.isArray(words)) {
    return words.map((part) => (/[\s"']/.test(part) ? JSON.stringify(part) : String(part))).join(" ");
  }
  const main = given.path ?? given.url ?? given.query ?? given.pattern ?? given.code;
  const shown = main === undefined ? given : main;
  return typeof shown === "string" ? shown.split("\n", 1)[0] : JSON.stringify(shown);
}

/** @param {any} given */
function pretty(given) {
  return typeof given === "string" ? given : JSON.stringify(given, null, 2);
}

/** Output that grows, its newest line in view. @param {{parts: string[], version: number}} props */
function Live({ parts, version }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const drawn = useRef(0);
  useLayoutEffect(() => {
    const pre = box.current;
    if (pre) {
      const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 24;
      appendText(pre, visible(parts.slice(drawn.current).join("").replace(COLOURS, "")));
      drawn.current = parts.length;
      if (atEnd) {
        pre.scrollTop = pre.scrollHeight;
      }
    }
  }, [version]);
  return html`<pre tabindex="0" ref=${box}></pre>`;
}

/** @param {{call: any, version: number}} props */
function Output({ call, version }) {
  if (!call.result) {
    return call.output.length ? html`<${Live} parts=${call.output} version=${version} />` : null;
  }
  const text = String(call.result.output ?? call.result.result ?? call.result.error ?? "").replace(COLOURS, "");
  const shown = text.slice(0, SHOWN_MOST);
  return html`${shown && html`<pre tabindex="0">${visible(shown)}</pre>`}
    ${(call.result.truncated || shown.length < text.length) && html`<p class="cut-note ink3">${t("task.output_cut")}</p>`}`;
}

/** @param {any} call @param {number} now */
function facts(call, now) {
  const { result, state } = call;
  if (!result) {
    const since = call.startedAtMs ? (now - call.startedAtMs) / 1000 : null;
    return [/^needs_/.test(state) ? "" : t(`task.call.${state}`), state === "running" && since !== null ? seconds(since) : ""];
  }
  const lines = String(result.output ?? "").replace(/\n$/, "");
  return [
    state === "denied" || state === "skip" ? t(`task.call.${state}`) : "",
    result.exit_code == null ? "" : t("task.exit", { code: result.exit_code }),
    lines ? t("task.lines", { count: lines.split("\n").length }) : "",
    result.duration_s == null ? "" : seconds(result.duration_s),
  ];
}

/** @param {any} call */
function decided(call) {
  if (!call.decision || call.decidedAt === undefined) {
    return "";
  }
  const length = seconds((call.decidedAt - (call.askedAt ?? call.decidedAt)) / 1000);
  return t(`task.decided.${call.decision}`, { length });
}

/** @param {{call: any, version: number, last: boolean, task: string}} props */
export function Tool({ call, version, last, task }) {
  const [wanted, setOpen] = useState(/** @type {boolean | null} */ (null));
  const asks = call.state === "needs_approval" || call.state === "needs_review";
  const lively = call.state === "running";
  const open = wanted ?? (asks || lively || (last && call.state === "failed") || call.state === "client");
  const now = useNow(lively);
  const began = useRef(Date.now());
  const [sign, colour] = SIGNS[call.state] ?? SIGNS.asked;
  const changes = call.diff ? parseDiff(call.diff) : null;
  const words = [decided(call), ...facts({ ...call, startedAtMs: lively ? began.current : null }, now)].filter(Boolean).join(" · ");
  return html`<section class="block ${asks ? "ask" : ""}" aria-label="${call.name} ${t(`task.call.${call.state}`)}">
    <header>
      <${Sign} name=${sign} state=${colour} /><span class="mono">${visible(call.name ?? "")}</span>
      <span class="mono ink2 cut"><bdi>${visible(summary(call.arguments))}</bdi></span>
      <span class="end">${words}${changes && html` <span class="mono">+${changes.added} −${changes.removed}</span>`}
        ${asks ? html`<${Copy} text=${call.diff ?? pretty(call.arguments)} />`
          : html`<button type="button" class="btn plain" aria-expanded=${open} onClick=${() => setOpen(!open)}>${t(open ? "task.fold" : "task.unfold")}</button>`}
      </span>
    </header>
    ${open && html`${call.reason && html`<p class="cut-note"><bdi>${visible(call.reason)}</bdi></p>`}
      ${call.diff ? html`<${Diff} diff=${call.diff} />` : (asks || wanted || call.state === "client") && html`<pre tabindex="0" class="args">${visible(pretty(call.arguments))}</pre>`}
      <${Output} call=${call} version=${version} />`}
    ${asks && html`<${Decide} call=${call} task=${task} />`}
  </section>`;
}

