/**
 * The entries of a task's log: what was thought, answered, run by tools, what failed, what changed.
 */
import { clock, count, seconds, visible } from "../core/format.js";
import { html, memo, useLayoutEffect, useRef, useState } from "../core/html.js";
import { ErrorBlock, Sign } from "../core/parts.js";
import { t } from "../core/text.js";
import { appendText } from "./code.js";
import { Markdown } from "./markdown.js";
import { Tool } from "./tool.js";

/** @typedef {import("./tasklog.js").Entry} Entry */

/** A text that only grows, as it is. @param {{parts: string[], version: number, cls?: string}} props */
export function Plain({ parts, version, cls = "plain-text" }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const drawn = useRef(0);
  useLayoutEffect(() => {
    if (box.current) {
      appendText(box.current, visible(parts.slice(drawn.current).join("")));
      drawn.current = parts.length;
    }
  }, [version, parts]);
  return html`<div class=${cls} dir="auto" ref=${box}></div>`;
}

/** @param {{entry: Entry, version: number, alone: boolean, now: boolean}} props */
function Think({ entry, version, alone, now }) {
  const [open, setOpen] = useState(/** @type {boolean | null} */ (null));
  const shown = open ?? (alone && now);
  const length = seconds(((entry.until ?? entry.at) - entry.at) / 1000);
  const word = entry.until === undefined && now ? t("task.thinking") : t("task.thought", { length });
  const tokens = entry.tokens ? t("task.tokens", { count: entry.tokens }) : "";
  return html`<button type="button" class="fold" aria-expanded=${shown} onClick=${() => setOpen(!shown)}>
      <${Sign} name=${shown ? "open" : "fold"} />${word} <span>${tokens}</span>
    </button>
    ${shown && html`<${Plain} parts=${entry.parts} version=${version} cls="plain-text thoughts" />`}`;
}

/** @param {{entry: Entry, version: number, now: boolean}} props */
function Answer({ entry, version, now }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const drawn = useRef(0);
  const markdown = useRef(/** @type {Markdown | null} */ (null));
  useLayoutEffect(() => {
    const parts = entry.parts ?? [];
    if (box.current) {
      markdown.current ??= new Markdown(box.current);
      if (drawn.current < parts.length) {
        markdown.current.append(parts.slice(drawn.current).join(""));
        drawn.current = parts.length;
      }
      if (entry.until !== undefined) {
        markdown.current.end();
      }
    }
  }, [version]);
  return html`<div class="read ${now && entry.until === undefined ? "now" : ""}" ref=${box}></div>`;
}

/** @param {{entry: Entry, advice: any}} props */
function Failure({ entry, advice }) {
  const { attempt, name, after, delay } = /** @type {any} */ (entry.values);
  const parts = [
    attempt ? t("task.attempt_n", { n: attempt }) : "",
    name,
    after >= 0 ? t("task.after", { length: seconds(after) }) : "",
  ];
  const next = delay == null ? advice : t("task.retried", { length: seconds(delay) });
  return html`<${ErrorBlock} error=${entry.error} where=${parts.filter(Boolean).join(" · ")}>${next}<//>`;
}

/** @param {{entry: Entry}} props */
function Note({ entry }) {
  const key = `task.note.${entry.word}`;
  return html`<p class="note ink2">${t(key, entry.values)}</p>`;
}

/**
 * @param {{entry: Entry, version: number, first: boolean, step: boolean, alone: boolean, now: boolean, last: boolean,
 *          advice: any, task: string, showTime: boolean}} props
 */
function draw({ entry, version, first, step, alone, now, last, advice, task, showTime }) {
  const body = {
    think: () => html`<${Think} entry=${entry} version=${version} alone=${alone} now=${now} />`,
    answer: () => html`<${Answer} entry=${entry} version=${version} now=${now} />`,
    tool: () => html`<${Tool} call=${entry.call} version=${version} last=${last} task=${task} />`,
    error: () => html`<${Failure} entry=${entry} advice=${advice} />`,
    note: () => html`<${Note} entry=${entry} />`,
  }[entry.kind];
  return html`<div class="at ${step && !first ? "step" : ""}">
    <div class="when">
      ${(showTime || step) && html`<time>${clock(entry.at / 1000)}</time>`}
      ${step && entry.step && html`<small>${t("task.step_n", { n: count(entry.step) })}</small>`}
    </div>
    <div class="what">${body()}</div>
  </div>`;
}

export const EntryView = memo(draw);
