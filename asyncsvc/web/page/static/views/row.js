/**
 * One task in the list: its sign, what was asked, one figure; who answers, why it stands where it
 * stands, and its trace. A row never changes its height.
 */
import { traces } from "../core/feed.js";
import { count, exact, relative, seconds, short, visible } from "../core/format.js";
import { html, memo } from "../core/html.js";
import { Sign, SmallTrace, StateSign, stateOf } from "../core/parts.js";
import { t } from "../core/text.js";
import { ofTask } from "../core/trace.js";

/** @typedef {import("../core/types.js").Task} Task */

const WAIT_MS = 60000;
const MOVES = new Set(["running", "pending", "call"]);

/** Whether time changes what a row shows. @param {Task} task */
export function moves(task) {
  return MOVES.has(stateOf(task)) || task.status === "scheduled";
}

/** @param {Task} task @param {any} live @param {number} now */
function runningFigure(task, live, now) {
  const trace = traces.get(task.task_id);
  const since = trace ? (now - trace.began - trace.since) / 1000 : 0;
  if (trace && (trace.kind === "think" || trace.kind === "tool")) {
    return t(`tasks.figure.${trace.kind}`, { length: seconds(Math.max(since, 0)) });
  }
  if (trace?.kind === "first" || (live && !live.tokens)) {
    return t("tasks.figure.first");
  }
  return live?.tokens_per_s == null ? "" : t("tasks.figure.rate", { rate: count(live.tokens_per_s, 1) });
}

/** @param {Task} task @param {any} live @param {number} now */
export function figure(task, live, now) {
  const state = stateOf(task);
  if (state === "running") {
    return runningFigure(task, live, now);
  }
  if (state === "pending" && live?.position != null) {
    const place = t("tasks.figure.place", { nth: live.position });
    return live.eta_s == null ? place : `${place}, ~${seconds(live.eta_s)}`;
  }
  if (state === "scheduled") {
    return task.next_run_at ? relative(task.next_run_at, now) : "";
  }
  const over = task.finished_at ? Date.parse(task.finished_at) : state === "paused" ? null : now;
  const from = state === "call" ? task.updated_at : task.created_at;
  return over === null ? "" : seconds(Math.max(over - Date.parse(from), 0) / 1000);
}

/** @param {Task} task @param {any} live */
export function why(task, live) {
  const state = stateOf(task);
  if (state === "call") {
    const [name] = (task.error?.message ?? "").split(" ", 1);
    return t(`tasks.why.${task.error?.code}`, { name });
  }
  if (state === "failed" || state === "scheduled") {
    return task.error ? `${task.error.code}: ${task.error.message}` : "";
  }
  if (state === "pending") {
    return live?.reason ?? "";
  }
  if (state === "cancelled") {
    return task.closed_ms == null ? "" : t("tasks.why.closed", { ms: Math.round(task.closed_ms) });
  }
  if (state === "completed") {
    const tokens = task.metadata?.usage?.completion_tokens;
    return task.metadata?.cached ? t("tasks.why.cached") : tokens ? t("tasks.why.tokens", { count: tokens }) : "";
  }
  return "";
}

/** @param {Task} task */
export function title(task) {
  const line = task.content_preview.trim().split("\n", 1)[0];
  return visible(line) || t("tasks.no_text", { type: task.type });
}

/** @param {Task} task @param {any} live */
function meta(task, live) {
  const model = task.metadata?.name ?? task.model ?? t("tasks.auto");
  const parts = [model, task.lane === "short" ? "" : task.lane, task.priority === 5 ? "" : `p${task.priority}`];
  const reason = why(task, live);
  return html`<span class="mono">${short(task.task_id)}</span>${parts
      .filter(Boolean)
      .map((part) => ` · ${part}`)}${reason && html` · <span class="why"><bdi>${visible(reason)}</bdi></span>`}`;
}

/** @param {Task} task @param {number} now */
function trace(task, now) {
  const live = traces.get(task.task_id);
  const segments = live ? live.until(now) : ofTask(task, now);
  const end = segments.reduce((latest, { to }) => Math.max(latest, to), 0);
  return html`<${SmallTrace} segments=${segments} total=${task.status === "pending" ? Math.max(end, WAIT_MS) : end} />`;
}

/**
 * @param {{task: Task, live: any, now: number, link: string, open: boolean, chosen: boolean, choosing: boolean,
 *          active: boolean, index: number, size: number, onChoose: (id: string, range: boolean) => void,
 *          onActive: (id: string) => void}} props
 */
function draw({ task, live, now, link, open, chosen, choosing, active, index, size, onChoose, onActive }) {
  const state = stateOf(task);
  const shown = figure(task, live, now || Date.now());
  const choose = (/** @type {MouseEvent} */ event) => {
    event.preventDefault();
    event.stopPropagation();
    onChoose(task.task_id, event.shiftKey);
  };
  return html`<a
    class="row"
    role="option"
    id="row-${task.task_id}"
    href=${link}
    tabindex=${active ? 0 : -1}
    aria-selected=${chosen}
    aria-current=${open ? "true" : null}
    aria-setsize=${size}
    aria-posinset=${index + 1}
    onFocus=${() => onActive(task.task_id)}
  >
    ${choosing
      ? html`<span class="hit" onClick=${choose}><${Sign} name=${chosen ? "boxed" : "box"} state="" /><span class="vh"
            >${t(`core.state.${state}`)}</span
          ></span>`
      : html`<span class="hit" onClick=${choose} title=${t("tasks.choose", { state: t(`core.state.${state}`) })}
          ><${StateSign} state=${state}
        /></span>`}
    <span class="t cut"><bdi>${title(task)}</bdi></span>
    <span class="f cut ${state === "running" || state === "failed" || state === "call" ? `st-${state}` : ""}"
      title=${task.finished_at ? exact(task.finished_at) : shown}>${shown}</span>
    <span class="m cut">${meta(task, live)}</span>
    <span class="tr">${trace(task, now || Date.now())}</span>
  </a>`;
}

export const Row = memo(draw);
