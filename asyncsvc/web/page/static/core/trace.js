/**
 * A trace: what went on in a task over time, made from its events.
 *
 * Kinds: `wait` (its turn), `first` (the first token), `think`, `say`, `tool`, `ask` (a person),
 * `rest` (paused or over). `cut` marks where an attempt was cut off.
 *
 * @typedef {{kind: string, from: number, to: number, now?: boolean, cut?: boolean, label?: string}} Segment  ms since the task came
 */

const LATER = { completed: "rest", failed: "rest", cancelled: "rest", paused: "rest", running: "first" };
const BY_TYPE = { reasoning: "think", chunk: "say", attempt: "first", step: "first" };
const ASKS = new Set(["needs_approval", "needs_review"]);
/** The kinds of the service's own spans. @type {Record<string, string>} */
const KINDS = {
  scheduled: "wait", pending: "wait", retry: "wait", first_token: "first", thinking: "think", answering: "say",
  tool: "tool", paused: "rest", approval: "ask",
};

export class Trace {
  /** @param {number} began  ms since the epoch */
  constructor(began) {
    this.began = began;
    /** @type {Segment[]} */
    this.segments = [];
    this.kind = "wait";
    this.since = 0;
    /** @type {Set<string>} */
    this.tools = new Set();
    this.attempt = 0;
    /** @type {string | undefined} */
    this.label = undefined;
  }

  /** @param {import("./types.js").Event} event */
  add(event) {
    const at = Math.max(Date.parse(event.ts) - this.began, 0);
    const kind = this.next(event);
    if (kind && kind !== this.kind) {
      this.turn(kind, at);
    }
    if (event.type === "attempt") {
      this.attempt += 1;
      this.label = String(this.attempt);
    }
  }

  /** @param {import("./types.js").Event} event @returns {string | undefined} */
  next({ type, data }) {
    if (type === "status") {
      if (this.failed(data)) {
        this.cutOff = true;
      }
      return this.ofStatus(data);
    }
    if (type === "tool_started") {
      this.tools.add(data.id);
      return "tool";
    }
    if (type === "tool_result") {
      this.tools.delete(data.id);
      return this.tools.size ? "tool" : "wait";
    }
    if (type === "approval") {
      return data.decision ? "wait" : undefined;
    }
    return BY_TYPE[/** @type {keyof typeof BY_TYPE} */ (type)];
  }

  /** @param {any} data */
  ofStatus(data) {
    this.tools.clear();
    if (data.status === "paused" && ASKS.has(data.error?.code)) {
      return "ask";
    }
    return LATER[/** @type {keyof typeof LATER} */ (data.status)] ?? "wait";
  }

  /** @param {any} data */
  failed({ cause }) {
    const under = this.kind === "first" || this.kind === "think" || this.kind === "say";
    return under && (cause === "retrying" || cause === "failed" || cause === "interrupted");
  }

  /** @param {string} kind @param {number} at */
  turn(kind, at) {
    const segment = { kind: this.kind, from: this.since, to: at, cut: this.cutOff, label: this.label };
    if (at > this.since || this.cutOff) {
      this.segments.push(segment);
    }
    this.cutOff = false;
    this.label = undefined;
    this.kind = kind;
    this.since = at;
  }

  /** @param {number} now  ms since the epoch @returns {Segment[]} */
  until(now) {
    if (this.kind === "rest") {
      return this.segments;
    }
    const last = { kind: this.kind, from: this.since, to: Math.max(now - this.began, this.since), now: true, label: this.label };
    return [...this.segments, last];
  }
}

/** @type {boolean} */
Trace.prototype.cutOff = false;

/**
 * The segments of a list item: what the service says, or what its times say.
 * @param {import("./types.js").Task} task
 * @param {number} now
 * @returns {Segment[]}
 */
export function ofTask(task, now) {
  const began = Date.parse(task.created_at);
  const over = task.finished_at ? Date.parse(task.finished_at) : now;
  const alive = !task.finished_at && task.status !== "paused" && task.status !== "scheduled";
  if (task.spans?.length) {
    return ofSpans(task.spans, alive ? now - began : null);
  }
  if (task.status === "scheduled") {
    return [];
  }
  if (!task.started_at) {
    return [{ kind: "wait", from: 0, to: over - began, now: false }];
  }
  const started = Math.max(Date.parse(task.started_at) - began, 0);
  const run = { kind: "say", from: started, to: Math.max(over - began, started), now: alive };
  return [{ kind: "wait", from: 0, to: started }, ...(task.status === "paused" ? [] : [run])];
}

/**
 * @param {import("./types.js").Span[]} spans
 * @param {number | null} until  where the last one goes on
 */
function ofSpans(spans, until) {
  /** @type {Segment[]} */
  const segments = [];
  let at = 0;
  for (const [kind, ms] of spans) {
    if (kind === "cut") {
      const last = segments[segments.length - 1];
      if (last) {
        last.cut = true;
      }
    } else {
      segments.push({ kind: KINDS[kind] ?? "rest", from: at, to: at + ms });
      at += ms;
    }
  }
  const last = segments[segments.length - 1];
  if (until !== null && last) {
    last.to = Math.max(until, last.to);
    last.now = true;
  }
  return segments;
}
