/**
 * The overview: what the service did over the last minutes or hours, what is near a limit, and what
 * tasks have waited for.
 */

import { bytes, count, daytime, relative, seconds } from "../core/format.js";
import { html, useMemo, useState } from "../core/html.js";
import { ErrorBlock, Sign } from "../core/parts.js";
import { go, withFilters } from "../core/router.js";
import { useStore } from "../core/store.js";
import { t } from "../core/text.js";
import { Chart } from "./charts.js";
import { Button, Choice, moment } from "./fields.js";
import { drawn, waited } from "./history.js";
import { FORBIDDEN, usePoll } from "./poll.js";
import { useSettings } from "./settings.js";

/**
 * @typedef {import("./history.js").History} History
 * @typedef {{name: string, level: string, message: string, remedy: string, value: number | null,
 *   limit: number | null, unit: string | null, since: string}} Alarm
 * @typedef {{number: number, at: string, name: string, was: string, level: string, message: string}} Change
 * @typedef {{status: string, problems: string[], reasons: Alarm[], alarms: Change[], taking_tasks: boolean,
 *   started_at: string, unfinished: number, memory_mb: number, loop_lag_ms: {p50: number, p99: number},
 *   fds: {open: number | null, limit: number | null},
 *   storage: {disk_free_mb: number | null, last_write_ok: boolean, last_write_s_ago: number}}} Health
 * @typedef {{name: string, word: string, value: string, of: string, share: number | null}} Watched
 */

const HISTORY_EVERY_MS = 5000;
const HEALTH_EVERY_MS = 2000;
const SPANS = { "15m": 15 * 60_000, "6h": 6 * 3_600_000 };
const NEAR = 0.8;
const CHANGES_MOST = 5;
const LOOKS = /** @type {const} */ (["plain", "dash", "dots"]);

/** @param {{route: import("../core/types.js").Route}} props */
export default function Overview({ route }) {
  const span = route.filters.span === "6h" ? "6h" : "15m";
  const [asTable, setTable] = useState(false);
  const health = usePoll("/health", HEALTH_EVERY_MS);
  const history = usePoll(`/stats/history?span=${span}`, HISTORY_EVERY_MS);
  const state = /** @type {Health | null} */ (health.data);
  const { values: limits } = useSettings();
  const figures = /** @type {History | null} */ (history.data);
  const options = Object.keys(SPANS).map((one) => /** @type {[string, string]} */ ([one, t(`overview.span.${one}`)]));
  return html`<div class="page">
    <div class="page-head">
      <div>
        <h1>${t("overview.title")}</h1>
        <p>${state && standing(state)}</p>
      </div>
      <div class="end">
        <${Button} pressed=${asTable} onClick=${() => setTable(!asTable)}>${t("overview.as_tables")}<//>
        <${Choice} bare label=${t("overview.span")} name="span" value=${span} options=${options}
          set=${(/** @type {string} */ one) => go(withFilters({ span: one === "15m" ? null : one }), { replace: true })} />
      </div>
    </div>
    ${health.error && html`<${ErrorBlock} error=${health.error} />`}
    <div class="over">
      ${figures
        ? html`<${Charts} figures=${figures} span=${SPANS[span]} limits=${limits} asTable=${asTable} />`
        : html`<div class="panes-none"><${Missing} error=${history.error} /></div>`}
      <aside>
        ${state && html`<${Watch} state=${state} limits=${limits} />`} ${figures && html`<${Waits} figures=${figures} span=${span} />`}
        ${state && html`<${Changes} changes=${state.alarms} />`}
      </aside>
    </div>
  </div>`;
}

/** What stands in the place of the charts. @param {{error: any}} props */
function Missing({ error }) {
  if (!error) return html`<p class="ink2">${t("overview.reading")}</p>`;
  if (error.code === FORBIDDEN) return html`<p class="ink2">${t("overview.for_admins")}</p>`;
  return html`<${ErrorBlock} error=${error} />`;
}

/** @param {Health} state */
function standing({ status, problems, taking_tasks: taking, started_at: started }) {
  if (status === "ok") return t("overview.ok", { since: moment(started) });
  return html`<bdi>${t("overview.degraded")} ${problems.join("; ")}.</bdi> ${t(taking ? "overview.taken" : "overview.not_taken")}`;
}

/** @param {{figures: History, span: number, limits: Record<string, any>, asTable: boolean}} props */
function Charts({ figures, span, limits, asTable }) {
  const [at, onAt] = useState(/** @type {number | null} */ (null));
  const slots = useStore((s) => /** @type {any[]} */ (s.models ?? []).reduce((sum, m) => sum + (m.enabled ? (m.concurrency ?? 0) : 0), 0));
  const seen = useMemo(() => drawn(figures), [figures]);
  const { levels } = seen;
  const shared = { times: seen.times, span, at, onAt, asTable, hours: false };
  const line = (/** @type {string} */ name, /** @type {any} */ values, look = "plain") => ({ name: t(`overview.${name}`), values, look });
  const few = (/** @type {number | null} */ value) => count(value, value !== null && value < 10 && value % 1 ? 1 : 0);
  const lanes = [line("priority", levels.priority, "thick"), line("short", levels.short), line("long", levels.long, "dash")];
  const waits = seen.waits.map(({ reason, values }, n) => ({ name: t(`overview.wait.${reason}`), values, look: LOOKS[n] }));
  const memory = Number(limits["limits.memory_mb"]) || null;
  const lag = Number(limits["limits.loop_lag_ms"]) || null;
  const pane = (/** @type {string} */ name, /** @type {any} */ lines, /** @type {any} */ more = {}) =>
    html`<${Chart} ...${shared} title=${t(`overview.${name}`)} unit=${t(`overview.${name}.unit`)} lines=${lines} show=${few} ...${more} />`;
  return html`<div class="panes">
    ${pane("tasks", [line("finished", seen.finished), line("submitted", seen.submitted, "dash")])}
    ${pane("tokens", [line("tokens", seen.tokens)])}
    ${pane("running", [line("running", levels.running)], { limit: slots || null, unit: slots ? t("overview.of_slots", { n: slots }) : t("overview.running.unit") })}
    ${pane("waiting", lanes, { sum: true })}
    ${pane("waited", waits, { sum: true })}
    ${pane("failed", [line("failed_calls", seen.failedCalls, "bad"), line("failed_tasks", seen.failedTasks), line("refused", seen.refused, "dots")])}
    ${pane("memory", [line("memory", levels.memory_mb)], { limit: memory, hours: true, unit: memory ? t("overview.mb_of", { n: memory }) : "MB" })}
    ${pane("lag", [line("lag", levels.loop_lag_ms)], { limit: lag, hours: true })}
    ${pane("cpu", [line("cpu", levels.cpu_percent)], { hours: true })}
  </div>`;
}

/** What is watched, each with its limit where the settings are known to the caller. @param {{state: Health, limits: Record<string, any>}} props */
function Watch({ state, limits }) {
  const items = watched(state, limits);
  const alarms = new Map(state.reasons.map((alarm) => [alarm.name, alarm]));
  const known = new Set(items.map((item) => item.name));
  return html`<h2>${t("overview.watched")} <small>${t("overview.mark")}</small></h2>
    <ul class="watch">
      ${items.map((item) => html`<${WatchedItem} item=${item} alarm=${alarms.get(item.name)} />`)}
      ${state.reasons
        .filter((alarm) => !known.has(alarm.name))
        .map((alarm) => html`<${WatchedItem} item=${{ name: alarm.name, word: alarm.name, value: "", of: "", share: null }} alarm=${alarm} />`)}
    </ul>`;
}

/** @param {Health} state @param {Record<string, any>} limits @returns {Watched[]} */
function watched(state, limits) {
  const of = (/** @type {number | null} */ value, /** @type {any} */ limit) => (limit > 0 && value !== null ? value / limit : null);
  const mb = (/** @type {number | null} */ value) => bytes(value === null ? null : value * 1e6);
  const { memory_mb: memory, storage, fds } = state;
  const [most, least, lag, queue] = ["limits.memory_mb", "limits.disk_free_mb", "limits.loop_lag_ms", "queue.max_length"].map((name) => limits[name]);
  const free = storage.disk_free_mb;
  return [
    { name: "memory", word: t("overview.memory"), value: mb(memory), of: most ? t("overview.of", { n: mb(most) }) : "", share: of(memory, most) },
    { name: "disk", word: t("overview.disk"), value: mb(free), of: least ? t("overview.needed", { n: mb(least) }) : "", share: least && free ? Math.min(least / free, 1) : null },
    { name: "loop_lag", word: t("overview.lag"), value: `${count(Math.round(state.loop_lag_ms.p99))} ms`, of: lag ? t("overview.of", { n: `${count(lag)} ms` }) : "", share: of(state.loop_lag_ms.p99, lag) },
    { name: "fds", word: t("overview.files"), value: count(fds.open), of: fds.limit ? t("overview.of", { n: fds.limit }) : "", share: of(fds.open, fds.limit) },
    { name: "queue", word: t("overview.queue"), value: count(state.unfinished), of: queue ? t("overview.of", { n: queue }) : "", share: of(state.unfinished, queue) },
    { name: "storage", word: t("overview.storage"), value: t(storage.last_write_ok ? "overview.written" : "overview.not_written", { length: seconds(storage.last_write_s_ago) }), of: "", share: null },
  ];
}

/** @param {{item: Watched, alarm: Alarm | undefined}} props */
function WatchedItem({ item, alarm }) {
  const bad = alarm?.level === "overloaded";
  const sign = !alarm ? "completed" : bad ? "failed" : "call";
  const share = item.share === null ? null : Math.min(item.share, 1) * 100;
  return html`<li>
    <${Sign} name=${sign} state=${sign} /><b>${item.word}</b><span class="num">${item.value} <small>${item.of}</small></span>
    ${share !== null &&
    html`<svg class="meter" aria-hidden="true">
      <rect class="track" x="0" y=".5" width="100%" height="7" />
      <rect class=${bad ? "over" : alarm ? "warn" : "fill"} x="0" y=".5" width=${`${share.toFixed(1)}%`} height="7" />
      <line class="mark" x1="${NEAR * 100}%" x2="${NEAR * 100}%" y1="0" y2="8" />
    </svg>`}
    ${alarm && html`<p><b>${t(`overview.level.${alarm.level}`, { since: moment(alarm.since) })}</b> <bdi>${alarm.message}. ${alarm.remedy}.</bdi></p>`}
  </li>`;
}

/** @param {{figures: History, span: string}} props */
function Waits({ figures, span }) {
  const rows = waited(figures);
  const most = rows[0]?.[1] ?? 0;
  return html`<h2>${t("overview.waits")} <small>${t("overview.together", { span: t(`overview.span.${span}`) })}</small></h2>
    ${!rows.length && html`<p class="ink2">${t("overview.no_waits")}</p>`}
    <table class="plain-table waits">
      ${rows.map(
        ([reason, s]) =>
          html`<tr>
            <td>${t(`overview.wait.${reason}`)}</td>
            <td><svg class="meter" aria-hidden="true"><rect class="fill" x="0" y=".5" width=${`${((100 * s) / most).toFixed(1)}%`} height="7" /></svg></td>
            <td class="num">${seconds(s)}</td>
          </tr>`,
      )}
    </table>`;
}

/** The latest changes of what is watched, newest first. @param {{changes: Change[]}} props */
function Changes({ changes }) {
  if (!changes.length) return null;
  return html`<h2 class="after">${t("overview.changes")}</h2>
    <ul class="changes">
      ${[...changes]
        .reverse()
        .slice(0, CHANGES_MOST)
        .map((one) => html`<li><time title=${relative(one.at)}>${daytime(one.at)}</time><b>${one.name}</b> ${t(`overview.is.${one.level}`)} <span class="ink3"><bdi>${one.message}</bdi></span></li>`)}
    </ul>`;
}
