/**
 * The parts of a model's row: its slots, its calls of the last minute, and its state in a word.
 *
 * A gate is one key of a model. Nothing here asks the service; ages of calls grow by the time since
 * they were read.
 */

import { html } from "../core/html.js";
import { seconds } from "../core/format.js";
import { t } from "../core/text.js";

/**
 * @typedef {{ago_s: number, refused: boolean}} Call
 * @typedef {{at: string, code: string, status: number | null, retry_after_s: number | null,
 *   message: string}} LastRefusal
 * @typedef {{
 *   name: string, in_flight: number, calls_in_window: number, concurrency: number,
 *   window_used: number, window_limit: number, window_s: number, tokens_used: number,
 *   tokens_limit: number, learned: any, breaker: "closed" | "open" | "half_open",
 *   waiting_for: string | null, why?: string | null, next_in_s?: number | null,
 *   recent_calls?: Call[], last_refusal?: LastRefusal | null,
 * }} Gate
 * @typedef {{
 *   name: string, aliases: string[], type: string, model: string, enabled: boolean,
 *   reason: string | null, paused: boolean, paused_at: string | null, in_flight: number,
 *   concurrency: number | null, concurrency_auto: boolean, calls_last_60s: number,
 *   rpm: number | null, rpm_auto: boolean, tpm: number, breaker: string, queue_depth: number,
 *   latency_s: number | null, calls: number, errors: number, waiting_for: string | null,
 *   ready: boolean | null, gates: Gate[], good_at?: string[],
 *   first_token_s?: number | null, tokens_per_s?: number | null,
 * }} Model
 * @typedef {{kind: "off" | "refused" | "held" | "broken" | "probe" | "rests" | "full" | "service",
 *   sign: string, left: number | null}} Standing
 */

const WINDOW_S = 60;
const CELLS_MOST = 12;
const SIGNS = {
  off: "cancelled",
  refused: "failed",
  held: "paused",
  broken: "failed",
  probe: "failed",
  rests: "scheduled",
  full: "pending",
  service: "running",
};
const RESTS = ["slow_down", "quota"];

/** The variable that a model lacks, read from the service's sentence. @param {Model} model */
export function lacks(model) {
  return /^([A-Za-z_][A-Za-z0-9_]*) is not set$/.exec(model.reason ?? "")?.[1] ?? null;
}

/** The key that takes the next call first. @param {Model} model @returns {Gate | undefined} */
export function soonest(model) {
  const wait = (/** @type {Gate} */ gate) => (gate.waiting_for ? (gate.next_in_s ?? Infinity) : 0);
  return [...model.gates].sort((a, b) => wait(a) - wait(b))[0];
}

/**
 * What keeps a model from taking a call, or nothing: one of the states of a row.
 *
 * @param {Model} model
 * @param {number} since seconds since it was read
 * @returns {Standing}
 */
export function standing(model, since = 0) {
  const of = (/** @type {Standing["kind"]} */ kind, /** @type {number | null} */ left = null) => ({
    kind,
    sign: SIGNS[kind],
    left: left === null ? null : Math.max(left - since, 0),
  });
  if (model.paused) return of("held");
  if (!model.enabled) return of(lacks(model) ? "off" : "refused");
  // One key that is free is enough for the next call.
  if (model.gates.some((gate) => !gate.waiting_for)) return of("service");
  const gate = soonest(model);
  const left = gate?.next_in_s ?? null;
  if (!gate) return of("service");
  if (gate.breaker === "half_open") return of("probe");
  if (gate.breaker === "open") return of("broken", left);
  return of(RESTS.includes(gate.why ?? "") ? "rests" : "full", left);
}

/**
 * The slots as cells, above twelve as a bar.
 *
 * @param {{used: number, all: number | null, probe?: boolean}} props
 */
export function Slots({ used, all, probe }) {
  if (all === null) return html`<span class="ink3">–</span>`;
  const label = t("models.slots_used", { used, all });
  return html`${all > CELLS_MOST
      ? html`<svg class="meter slotbar" role="img" aria-label=${label}>
          <rect class="track" x="0" y=".5" width="100%" height="7" />
          <rect class="busy" x="0" y=".5" width=${`${(100 * Math.min(used, all)) / all}%`} height="7" />
        </svg>`
      : html`<span class="slots" role="img" aria-label=${label}
          >${Array.from({ length: all }, (_, n) => html`<i class=${n < used ? (probe ? "probe" : "on") : ""}></i>`)}</span
        >`}<small>${t("models.of", { used, all })}${probe ? ` · ${t("models.probe")}` : ""}</small>`;
}

/**
 * The calls of a gate's last minute, by age, refused or not.
 *
 * @param {Gate} gate
 * @param {number} since seconds since it was read
 * @returns {Call[]}
 */
export function callsOf(gate, since) {
  return (gate.recent_calls ?? [])
    .map((call) => ({ ...call, ago_s: call.ago_s + since }))
    .filter((call) => call.ago_s <= WINDOW_S);
}

/**
 * The ticks of a window, oldest at the left. A refused call is red and taller; the call whose
 * leaving makes room stands out where the window is full.
 *
 * @param {{gates: Gate[], since: number, bare?: boolean}} props
 */
export function Window({ gates, since, bare }) {
  const known = gates.some((gate) => gate.recent_calls);
  const calls = gates.flatMap((gate) => callsOf(gate, since)).sort((a, b) => b.ago_s - a.ago_s);
  const limit = gates.reduce((sum, gate) => sum + gate.window_limit, 0);
  const used = gates.reduce((sum, gate) => sum + gate.window_used, 0);
  const full = limit > 0 && used >= limit;
  const oldest = full ? calls.find((call) => !call.refused) : undefined;
  const count = known ? calls.length : gates.reduce((sum, gate) => sum + gate.calls_in_window, 0);
  return html`<svg role="img" aria-label=${t("models.calls_in_minute", { count })}>
      <line class="base" x1="0" x2="100%" y1="18.5" y2="18.5" />
      ${calls.map((call) => tick(call, call === oldest))}
    </svg>
    ${!bare &&
    html`<small
      ><span>${t("models.minute_ago")}</span><span>${room(limit, used, oldest)}</span><span>${t("models.now")}</span></small
    >`}`;
}

/** @param {Call} call @param {boolean} oldest */
function tick(call, oldest) {
  const x = `${(100 * (1 - call.ago_s / WINDOW_S)).toFixed(1)}%`;
  if (call.refused) return html`<rect class="refused" x=${x} y="0" width="2" height="20" />`;
  if (oldest) return html`<rect class="old" x=${x} y="0" width="3" height="18" />`;
  return html`<rect class="call" x=${x} y="4" width="2" height="14" />`;
}

/** @param {number} limit @param {number} used @param {Call | undefined} oldest */
function room(limit, used, oldest) {
  if (!limit) return "";
  if (used < limit) return t("models.room_for", { n: limit - used });
  return oldest ? t("models.room_in", { length: seconds(Math.max(WINDOW_S - oldest.ago_s, 0)) }) : t("models.no_room");
}
