/**
 * The life of a task as a picture: the same trace as in its row, larger, with an axis and names.
 */
import { count } from "../core/format.js";
import { html, useLayoutEffect, useRef, useState } from "../core/html.js";
import { traceParts } from "../core/parts.js";
import { t } from "../core/text.js";

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 604800];
const LETTER = 7;
const TICKS = 5;

/** @param {number} total  seconds @returns {number[]} */
function ticks(total) {
  const step = STEPS.find((one) => total / one <= TICKS) ?? total;
  const found = [];
  for (let at = 0; at < total * 0.93; at += step) {
    found.push(at);
  }
  return found;
}

/** @param {number} value */
function axis(value) {
  return value < 120 ? count(value, value % 1 ? 1 : 0) : value < 7200 ? t("core.min", { n: count(value / 60) }) : t("core.h", { n: count(value / 3600, 1) });
}

/**
 * Names of segments, without those that would stand in another's place.
 * @param {import("../core/trace.js").Segment[]} segments
 * @param {number} total
 * @param {number} width
 */
function labels(segments, total, width) {
  const last = segments[segments.length - 1];
  const named = segments.flatMap((segment) => {
    const now = segment === last && segment.now;
    const attempt = segment.label ? t("task.attempt_n", { n: segment.label }) : "";
    const text = now && segment.kind !== "wait" ? t(`task.now.${segment.kind}`) : attempt || (segment.kind === "ask" ? t("task.needed_you") : "");
    return text ? [{ text, from: segment.from / total, end: now, ask: segment.kind === "ask" }] : [];
  });
  const shown = [];
  let free = 0;
  const end = named[named.length - 1];
  const right = end?.end ? 1 - (end.text.length * LETTER + 8) / width : 1;
  for (const one of named) {
    const size = (one.text.length * LETTER + 12) / width;
    if (one.end || (one.from >= free && one.from + size <= right)) {
      shown.push(one);
      free = one.from + size;
    }
  }
  return shown.map((one) => html`<text x=${one.end ? "100%" : `${(one.from * 100).toFixed(2)}%`} y="12"
    class=${one.ask ? "askt" : "strong"} text-anchor=${one.end ? "end" : null}>${one.text}</text>`);
}

/** @param {{log: import("./tasklog.js").TaskLog, now: number}} props */
export function Life({ log, now }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [width, setWidth] = useState(700);
  useLayoutEffect(() => {
    const watcher = new ResizeObserver(([entry]) => setWidth(Math.round(entry.contentRect.width)));
    watcher.observe(/** @type {HTMLElement} */ (box.current));
    return () => watcher.disconnect();
  }, []);
  const segments = log.events ? log.trace.until(now) : [];
  const total = segments.reduce((latest, { to }) => Math.max(latest, to), 0);
  const place = (/** @type {number} */ at) => `${((at * 100) / (total / 1000)).toFixed(2)}%`;
  return html`<div class="life" ref=${box}>
    <svg class="trace" role="img" aria-label=${t("task.timeline")}>
      <line class="axis" x1="0" x2="100%" y1="41.5" y2="41.5" />
      ${total > 0 && html`${traceParts(segments, total, true)}${labels(segments, total, width)}
        ${ticks(total / 1000).map((at) => html`<text x=${place(at)} y="60" text-anchor=${at ? "middle" : "start"}>${axis(at)}</text>
          <line class="axis" x1=${place(at)} x2=${place(at)} y1="42" y2="47" />`)}
        <text x="100%" y="60" text-anchor="end">${total < 120000 ? t("core.s", { n: count(total / 1000, 1) }) : axis(total / 1000)}</text>
        <line class="axis" x1="100%" x2="100%" y1="42" y2="47" />`}
    </svg>
  </div>`;
}
