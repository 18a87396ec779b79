/**
 * A chart of the overview: lines over time as SVG, in the colours of the style sheet.
 *
 * All charts share one crosshair: `at` is the index of the moment under it, null for none. Lines
 * differ by weight and dash, never by colour alone; the same values can be had as a table.
 */

import { daytime } from "../core/format.js";
import { html, useMemo, useState } from "../core/html.js";
import { t } from "../core/text.js";

/**
 * @typedef {"plain" | "thick" | "dash" | "dots" | "bad"} Look
 * @typedef {(number | null)[]} Values
 * @typedef {{name: string, values: Values, look: Look}} Line
 * @typedef {{
 *   title: string, unit: string, lines: Line[], times: number[], span: number, limit?: number | null,
 *   show: (value: number | null) => string, hours: boolean, at: number | null,
 *   onAt: (at: number | null) => void, sum?: boolean, asTable: boolean,
 * }} ChartProps  `times`: ms since the epoch, oldest first; `span`:
 *   ms that the width stands for; `sum`: the large figure is the sum of the
 *   lines, else the first line's.
 */

const WIDTH = 400;
const TOP = 2;
const BASE = 87.5;
const TABLE_ROWS = 30;
/** The lowest top of an axis. */
const LEAST = 2;
/** A limit is drawn where a line has come up to this share of it. */
const LIMIT_FROM = 0.1;
const STEPS = [1, 2, 4, 6, 8, 10];
const HOURS = [0, 1 / 3, 2 / 3, 1];

/**
 * The top of an axis that begins at 0: a round number whose half is round too.
 *
 * @param {number} most the largest value that must fit
 * @returns {number}
 */
export function axisTop(most) {
  if (most <= LEAST) return LEAST;
  const scale = 10 ** Math.floor(Math.log10(most));
  const step = STEPS.find((n) => n * scale >= most * 0.999) ?? 10;
  return step * scale;
}

/** Where a moment stands: the last one at the right end, `span` before it at the left.
 * @param {number[]} times @param {number} index @param {number} span */
function across(times, index, span) {
  return WIDTH * (1 - (times[times.length - 1] - times[index]) / span);
}

/** @param {number} value @param {number} top */
function up(value, top) {
  return BASE - (BASE - TOP) * Math.min(value / top, 1);
}

/**
 * The path of a line; where a value is unknown it is interrupted.
 *
 * @param {Values} values
 * @param {number[]} times
 * @param {number} span
 * @param {number} top
 * @returns {string}
 */
export function pathOf(values, times, span, top) {
  let drawn = "";
  let begun = false;
  values.forEach((value, index) => {
    const x = across(times, index, span);
    if (x < 0) return;
    if (value !== null) {
      drawn += `${begun ? "L" : "M"}${x.toFixed(1)},${up(value, top).toFixed(1)}`;
    }
    begun = value !== null;
  });
  return drawn;
}

/** @param {Line[]} lines */
function largest(lines) {
  return lines.reduce((most, line) => line.values.reduce((m, v) => Math.max(m ?? 0, v ?? 0), most) ?? most, 0);
}

/** @param {ChartProps} props */
export function Chart(props) {
  const { title, unit, lines, times, show, at, sum, asTable } = props;
  const index = at !== null && at < times.length ? at : times.length - 1;
  const here = (/** @type {Line} */ line) => line.values[index] ?? null;
  const known = lines.map(here).filter((value) => value !== null);
  const figure = sum ? (index < 0 ? null : known.reduce((a, b) => a + b, 0)) : here(lines[0]);
  return html`<section class="pane">
    <h2>
      ${title}<span class="end"
        >${(lines.length > 1 || sum) && lines.map((line) => html`<${Key} line=${line} value=${show(here(line))} />`)}</span
      >
    </h2>
    <div class="fig">
      ${show(figure)}<small>${unit}${at !== null && index >= 0 ? ` · ${daytime(times[index])}` : ""}</small>
    </div>
    ${asTable ? html`<${Table} ...${props} />` : html`<${Plot} ...${props} figure=${show(figure)} />`}
  </section>`;
}

/** @param {{line: Line, value: string}} props */
function Key({ line, value }) {
  return html`<span class="key"
    ><svg aria-hidden="true"><path class=${line.look} d="M0 4h16" /></svg>${line.name} <b>${value}</b></span
  >`;
}

/** The lines, the scale beside them, and the crosshair, which follows the pointer and ← →.
 * @param {ChartProps & {figure: string}} props */
function Plot({ title, unit, lines, times, span, limit: given, show, hours, at, onAt, figure }) {
  const [keyed, setKeyed] = useState(false);
  const most = useMemo(() => largest(lines), [lines]);
  const limit = given && most >= given * LIMIT_FROM ? given : 0;
  const top = axisTop(Math.max(most, limit));
  const paths = useMemo(() => lines.map((line) => pathOf(line.values, times, span, top)), [lines, times, top]);
  const last = times.length - 1;
  const pressed = (/** @type {KeyboardEvent} */ event) => {
    const step = /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowRight: 1 })[event.key];
    if (!step || last < 0) return;
    event.preventDefault();
    setKeyed(true);
    onAt(Math.min(Math.max((at ?? last) + step, 0), last));
  };
  const pointed = (/** @type {any} */ event) => {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    onAt(nearest(times, times[last] - span * (1 - (event.clientX - left) / width)));
  };
  const label = t("overview.chart", { title, figure, unit });
  return html`<div class="chart">
    <div class="plot" tabindex="0" role="group" aria-label=${label} onKeyDown=${pressed} onMouseMove=${pointed}
      onMouseLeave=${() => onAt(null)} onBlur=${() => onAt(null)}>
      <svg viewBox="0 0 ${WIDTH} 88" preserveAspectRatio="none" aria-hidden="true">
        ${[TOP, 45, BASE].map((y) => html`<line x1="0" x2=${WIDTH} y1=${y} y2=${y} />`)}
        ${limit ? html`<line class="limit" x1="0" x2=${WIDTH} y1=${up(limit, top)} y2=${up(limit, top)} />` : null}
        ${lines.map((line, n) => html`<path class=${line.look} d=${paths[n]} />`)}
        ${lines.map((line) => html`<${Point} value=${line.values[last] ?? null} x=${WIDTH} top=${top} />`)}
        ${at !== null && at <= last && html`<${Cross} lines=${lines} x=${across(times, at, span)} at=${at} top=${top} />`}
      </svg>
    </div>
    <div class="y" aria-hidden="true"><span>${show(top)}</span><span>${show(top / 2)}</span><span>${show(0)}</span></div>
    ${hours && last > 0 && html`<div class="x" aria-hidden="true">${HOURS.map((part) => html`<span>${hour(times[last], span, part)}</span>`)}</div>`}
    ${keyed && html`<span class="vh" role="status">${at === null ? "" : `${daytime(times[at])}: ${figure} ${unit}`}</span>`}
  </div>`;
}

/** @param {number} now @param {number} span @param {number} part */
function hour(now, span, part) {
  return part === 1 ? t("overview.now") : daytime(now - span * (1 - part)).slice(0, 5);
}

/** The index of the moment that is nearest; null where there is none. @param {number[]} times @param {number} when */
function nearest(times, when) {
  const after = times.findIndex((time) => time >= when);
  if (after < 0) return times.length ? times.length - 1 : null;
  return after > 0 && when - times[after - 1] < times[after] - when ? after - 1 : after;
}

/** The last value of a line, which is the present. @param {{value: number | null, x: number, top: number}} props */
function Point({ value, x, top }) {
  return value === null ? null : html`<path class="now" d=${`M${x - 0.5},${up(value, top).toFixed(1)}h.01`} />`;
}

/** @param {{lines: Line[], at: number, x: number, top: number}} props */
function Cross({ lines, at, x, top }) {
  return html`<line class="cross" x1=${x} x2=${x} y1="0" y2="88" />${lines.map(
    (line) => html`<${Point} value=${line.values[at] ?? null} x=${x} top=${top} />`,
  )}`;
}

/** The values, newest first; where there are many, every n-th. @param {ChartProps} props */
function Table({ title, lines, times, show }) {
  const step = Math.max(1, Math.ceil(times.length / TABLE_ROWS));
  const rows = times.map((_, index) => index).filter((index) => (times.length - 1 - index) % step === 0);
  return html`<div class="plot-table" tabindex="0" role="region" aria-label=${title}>
    <table class="plain-table">
      <thead>
        <tr>
          <th scope="col">${t("overview.time")}</th>
          ${lines.map((line) => html`<th scope="col" class="num">${line.name}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.reverse().map(
          (index) =>
            html`<tr>
              <th scope="row">${daytime(times[index])}</th>
              ${lines.map((line) => html`<td class="num">${show(line.values[index] ?? null)}</td>`)}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
