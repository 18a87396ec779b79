/**
 * A chart of the overview: lines over time, drawn by uPlot in the colours of the page.
 *
 * All charts share one crosshair: `at` is the index of the moment under it, null for none. Lines
 * differ by weight and dash, never by colour alone; the same values can be had as a table.
 */

import { html, useEffect, useRef, useState } from "../core/html.js";
import { t } from "../core/text.js";
import uPlot from "../vendor/uPlot.js";

/**
 * @typedef {"thick" | "plain" | "dash" | "dots" | "bad"} Look
 * @typedef {{name: string, values: (number | null)[], look: Look}} Line
 * @typedef {{
 *   title: string, unit: string, lines: Line[], times: number[], limit?: number | null,
 *   show: (value: number | null) => string, hours: boolean, at: number | null,
 *   onAt: (at: number | null) => void, sum?: boolean, note?: string, asTable: boolean, whole?: boolean,
 * }} ChartProps  `sum`: the large figure is the sum of the lines; `whole`: values are whole numbers.
 */

const HEIGHT = 120;
const HOURS_HEIGHT = 20;
const DASHES = { thick: [], plain: [], bad: [], dash: [5, 3], dots: [1.5, 3] };
const WIDTHS = { thick: 3, plain: 1.5, bad: 1.5, dash: 1.5, dots: 2 };
const TABLE_ROWS = 30;
const STEPS = [1, 2, 4, 6, 8, 10];

/**
 * The top of an axis that begins at 0: a round number whose half is round too.
 *
 * @param {number} most the largest value that must fit
 * @param {boolean} whole
 * @returns {number}
 */
export function axisTop(most, whole = false) {
  const least = whole ? 2 : 0.02;
  if (!(most > least)) return least;
  const scale = 10 ** Math.floor(Math.log10(most));
  const step = STEPS.find((n) => n * scale >= most) ?? 10;
  return Math.max(step * scale, least);
}

/**
 * The colours that stand in the style sheet under these names, as a canvas needs them.
 *
 * @param {Element} place
 * @returns {Record<"ink2" | "ink3" | "line" | "accent" | "failed", string>}
 */
function colours(place) {
  const probe = document.createElement("span");
  place.append(probe);
  const read = (/** @type {string} */ name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const found = {
    ink2: read("ink-2"),
    ink3: read("ink-3"),
    line: read("line"),
    accent: read("accent"),
    failed: read("failed"),
  };
  probe.remove();
  return found;
}

/**
 * @param {HTMLElement} place
 * @param {() => ChartProps} props
 * @returns {uPlot}
 */
function plot(place, props) {
  const tint = colours(place);
  const { lines, limit, show, hours, whole } = props();
  const font = `12px ${getComputedStyle(place).fontFamily}`;
  /** @type {any} */
  const options = {
    width: Math.max(place.clientWidth, 120),
    height: HEIGHT + (hours ? HOURS_HEIGHT : 0),
    padding: [8, 4, hours ? 0 : 8, 2],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6, width: 0, fill: tint.accent } },
    scales: {
      x: { time: true },
      y: {
        range: (/** @type {uPlot} */ _, /** @type {number} */ __, /** @type {number} */ most) => [
          0,
          axisTop(Math.max(most || 0, limit ?? 0), whole),
        ],
      },
    },
    axes: [hourAxis(tint, font, hours), valueAxis(tint, font, show)],
    series: [{}, ...lines.map((line) => series(line, tint))],
    hooks: {
      draw: [(/** @type {uPlot} */ u) => drawMarks(u, props(), tint)],
      setCursor: [
        (/** @type {uPlot} */ u) => {
          const { at, onAt } = props();
          const found = u.cursor.idx ?? null;
          if (found !== at && place.matches(":hover")) onAt(found);
        },
      ],
    },
  };
  return new uPlot(options, values(props()), place);
}

/** @param {ChartProps} props @returns {any} */
function values({ times, lines }) {
  return [times, ...lines.map((line) => line.values)];
}

/** @param {Record<string, string>} tint @param {string} font @param {boolean} shown */
function hourAxis(tint, font, shown) {
  return {
    show: shown,
    size: HOURS_HEIGHT,
    gap: 2,
    font,
    stroke: tint.ink3,
    grid: { show: false },
    ticks: { show: false },
    space: 80,
    values: (/** @type {uPlot} */ _, /** @type {number[]} */ at) =>
      at.map((s) => new Date(s * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false })),
  };
}

/** @param {Record<string, string>} tint @param {string} font @param {(v: number) => string} show */
function valueAxis(tint, font, show) {
  return {
    side: 1,
    size: 44,
    gap: 6,
    font,
    stroke: tint.ink3,
    grid: { stroke: tint.line, width: 1 },
    ticks: { show: false },
    splits: (/** @type {uPlot} */ u) => {
      const top = u.scales.y.max ?? 1;
      return [0, top / 2, top];
    },
    values: (/** @type {uPlot} */ _, /** @type {number[]} */ at) => at.map((value) => show(value)),
  };
}

/** @param {Line} line @param {Record<string, string>} tint */
function series(line, tint) {
  return {
    stroke: line.look === "bad" ? tint.failed : tint.ink2,
    width: WIDTHS[line.look],
    dash: DASHES[line.look],
    points: { show: false },
    spanGaps: false,
  };
}

/**
 * The limit as a dashed line, and the last value of each line as a point in the accent.
 *
 * @param {uPlot} u
 * @param {ChartProps} props
 * @param {Record<string, string>} tint
 */
function drawMarks(u, { lines, times, limit }, tint) {
  const { ctx } = u;
  const ratio = devicePixelRatio;
  ctx.save();
  if (limit) {
    const y = u.valToPos(limit, "y", true);
    ctx.strokeStyle = tint.ink3;
    ctx.lineWidth = ratio;
    ctx.setLineDash([4 * ratio, 4 * ratio]);
    ctx.beginPath();
    ctx.moveTo(u.bbox.left, y);
    ctx.lineTo(u.bbox.left + u.bbox.width, y);
    ctx.stroke();
  }
  ctx.fillStyle = tint.accent;
  for (const line of lines) {
    const value = line.values[times.length - 1];
    if (value === null || value === undefined) continue;
    ctx.beginPath();
    ctx.arc(u.valToPos(times[times.length - 1], "x", true), u.valToPos(value, "y", true), 3.5 * ratio, 0, 7);
    ctx.fill();
  }
  ctx.restore();
}

/**
 * Keeps a plot in a place: made anew when the kind of chart or the theme changes, else fed.
 *
 * @param {ChartProps} props
 * @returns {{current: HTMLElement | null}}
 */
function usePlot(props) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const plotted = useRef(/** @type {uPlot | null} */ (null));
  const latest = useRef(props);
  latest.current = props;
  const theme = useTheme();
  const kind = `${theme} ${props.asTable} ${props.hours} ${props.limit ?? ""} ${props.lines.map((l) => l.name)}`;
  useEffect(() => {
    const at = place.current;
    if (!at || props.asTable) return undefined;
    const u = plot(at, () => latest.current);
    plotted.current = u;
    const watch = new ResizeObserver(() => {
      if (at.clientWidth && at.clientWidth !== u.width) u.setSize({ width: at.clientWidth, height: u.height });
    });
    watch.observe(at);
    return () => {
      watch.disconnect();
      u.destroy();
      plotted.current = null;
    };
  }, [kind]);
  useEffect(() => {
    plotted.current?.setData(values(props));
  }, [props.times]);
  useEffect(() => {
    const u = plotted.current;
    if (!u || (u.cursor.idx ?? null) === props.at) return;
    const left = props.at === null ? -10 : u.valToPos(props.times[props.at], "x");
    u.setCursor({ left, top: 0 }, false);
  }, [props.at, props.times]);
  return place;
}

/** What tells one look of the page from another: colours are read again when it changes. */
function useTheme() {
  const [now, set] = useState(themeNow);
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => set(themeNow());
    const watch = new MutationObserver(changed);
    watch.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    dark.addEventListener("change", changed);
    return () => {
      watch.disconnect();
      dark.removeEventListener("change", changed);
    };
  }, []);
  return now;
}

function themeNow() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
}

/** @param {{look: Look, name: string, value: string}} props */
function Key({ look, name, value }) {
  return html`<span class="key"
    ><svg aria-hidden="true"><path class=${look} d="M0 4h16" /></svg>${name} <b>${value}</b></span
  >`;
}

/** @param {ChartProps} props */
export function Chart(props) {
  const { title, unit, lines, times, show, at, onAt, sum, note, asTable } = props;
  const place = usePlot(props);
  const index = at !== null && at < times.length ? at : times.length - 1;
  const here = (/** @type {Line} */ line) => line.values[index] ?? null;
  const known = lines.map(here).filter((value) => value !== null);
  const figure = sum && known.length ? known.reduce((a, b) => a + b, 0) : lines.length ? here(lines[0]) : null;
  const moved = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") onAt(null);
    if (!step || !times.length) return;
    event.preventDefault();
    onAt(Math.min(Math.max((at ?? times.length - 1) + step, 0), times.length - 1));
  };
  return html`<section class="pane">
    <h2>
      ${title}<span class="end"
        >${lines.length > 1 &&
        lines.map((line) => html`<${Key} look=${line.look} name=${line.name} value=${show(here(line))} />`)}${note}</span
      >
    </h2>
    <div class="fig">${show(figure)}<small>${unit}${at !== null && times.length ? ` · ${clockOf(times[index])}` : ""}</small></div>
    ${asTable
      ? html`<${Table} ...${props} />`
      : html`<div
          class="plot"
          ref=${place}
          tabindex="0"
          role="group"
          aria-label=${t("overview.chart", { title, now: show(figure), unit })}
          onKeyDown=${moved}
          onMouseLeave=${() => onAt(null)}
          onBlur=${() => onAt(null)}
        ></div>`}
  </section>`;
}

/** @param {ChartProps} props */
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
              <th scope="row">${clockOf(times[index])}</th>
              ${lines.map((line) => html`<td class="num">${show(line.values[index] ?? null)}</td>`)}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** @param {number} s seconds since 1970 */
function clockOf(s) {
  return new Date(s * 1000).toLocaleTimeString([], { hour12: false });
}
