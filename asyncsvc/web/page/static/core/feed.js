/**
 * What the feed of all tasks means for the page: which task stands where, what is counted, which
 * tasks are new. Lists ask to be told of what they do not know yet.
 */
import { api } from "./api.js";
import { getState, set, touch } from "./store.js";
import { Trace } from "./trace.js";

/** @typedef {import("./types.js").Event} Event @typedef {import("./types.js").Task} Task */

/** Traces of the tasks that have begun since the page was opened. @type {Map<string, Trace>} */
export const traces = new Map();
/** @type {Set<(id: string | null, task: Task | undefined) => void>} */
const watchers = new Set();
const STATS_EVERY_MS = 1500;
const MODELS_EVERY_MS = 5000;
const TRACES_MOST = 5000;
const FINISHED = new Set(["completed", "failed", "cancelled"]);
let statsDue = false;

/**
 * Be told of each change of a task's state; `task` is undefined where the page does not know it,
 * `id` null where changes were missed.
 * @param {(id: string | null, task: Task | undefined) => void} watcher
 * @returns {() => void}
 */
export function watch(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

/**
 * Pieces of an answer that change nothing in a list need not be read.
 * @param {string} id
 * @param {string} type
 */
export function skips(id, type) {
  const kind = traces.get(id)?.kind;
  return kind === undefined || kind === (type === "chunk" ? "say" : "think");
}

/**
 * @param {Event} event
 * @param {boolean} followed  the open task: its trace is kept by its own view
 */
export function apply(event, followed) {
  const { tasks, live } = getState();
  const { task_id: id, type, data } = event;
  if (type === "progress") {
    live.set(id, { ...data, at: Date.now() });
    touch();
    return;
  }
  if (event.seq === 1 && !followed && traces.size < TRACES_MOST) {
    traces.set(id, new Trace(Date.parse(event.ts)));
  }
  if (!followed) {
    traces.get(id)?.add(event);
  }
  const task = tasks.get(id);
  const changed = task && changes(task, event);
  if (task && changed) {
    tasks.set(id, { ...task, ...changed });
    touch();
  }
  if (type === "status") {
    if (FINISHED.has(data.status) || data.status === "paused") {
      live.delete(id);
    }
    countAgain();
    for (const watcher of watchers) {
      watcher(id, tasks.get(id));
    }
  }
}

/**
 * @param {Task} task
 * @param {Event} event
 * @returns {Partial<Task> | null}
 */
function changes(task, { type, data, ts }) {
  if (type === "attempt") {
    const route = { ...task.metadata.route, ...data.route };
    const metadata = { ...task.metadata, name: data.name, model: data.model, route };
    return { metadata, started_at: task.started_at ?? ts };
  }
  if (type === "step") {
    return { metadata: { ...task.metadata, steps: data.number } };
  }
  return type === "status" ? moved(task, data, ts) : null;
}

/** @param {Task} task @param {any} data @param {string} ts @returns {Partial<Task>} */
function moved(task, data, ts) {
  /** @type {Partial<Task>} */
  const patch = {
    status: data.status,
    updated_at: ts,
    next_run_at: data.next_run_at ?? null,
    error: data.error ?? null,
    ...(data.spans ? { spans: data.spans } : {}),
    ...(data.closed_ms === undefined ? {} : { closed_ms: data.closed_ms }),
  };
  if (data.cause === "started") {
    patch.attempts = task.attempts + 1;
    patch.started_at = task.started_at ?? ts;
  }
  if (data.cause === "rerun") {
    return { ...patch, started_at: null, finished_at: null, spans: undefined };
  }
  if (FINISHED.has(data.status)) {
    const told = ["usage", "latency", "finish_reason", "model", "name", "cached"];
    const facts = Object.fromEntries(told.filter((name) => name in data).map((name) => [name, data[name]]));
    return { ...patch, finished_at: ts, metadata: { ...task.metadata, ...facts } };
  }
  return patch;
}

/** Ask for the counts again, soon, but not for each of many changes. */
export function countAgain() {
  if (statsDue) {
    return;
  }
  statsDue = true;
  setTimeout(async () => {
    try {
      set({ stats: await api.get("/tasks/stats") });
    } catch {
      // The connection says so already.
    }
    statsDue = false;
  }, STATS_EVERY_MS);
}

/** Read what the bar and the filters show. */
export async function readCounts() {
  const [stats, { models }] = await Promise.all([api.get("/tasks/stats"), api.get("/models")]);
  const who = getState().who;
  set({ stats, models, who: who === "unknown" || who === "signed-out" ? "open" : who });
}

/** Events were missed: all that they would have changed is read again. */
export function missed() {
  void readCounts().catch(() => {}); // the connection says so already
  for (const watcher of watchers) {
    watcher(null, undefined);
  }
}

/** Models change seldom: their names and states are read every few seconds while they are shown. */
export function startCounts() {
  setInterval(async () => {
    const { connection, who } = getState();
    if (document.visibilityState !== "visible" || connection.state !== "live" || who === "signed-out") {
      return;
    }
    try {
      set({ models: (await api.get("/models")).models });
    } catch {
      // The next look may succeed.
    }
  }, MODELS_EVERY_MS);
}
