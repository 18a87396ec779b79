/**
 * What happened in one task, as entries of a log made from its events: thoughts, answers, calls of
 * tools, errors, notes. Text of an attempt that did not end is void: it goes to its attempt.
 */
import { Trace } from "../core/trace.js";

/** @typedef {import("../core/types.js").Event} Event */

/**
 * @typedef {object} Entry
 * @property {number} key
 * @property {"think" | "answer" | "tool" | "error" | "note"} kind
 * @property {number} at  ms since the task came
 * @property {number} version  grows with each change
 * @property {number} [step]
 * @property {string[]} [parts]  of a text, in order
 * @property {number} [until]  when it ended
 * @property {number} [tokens]
 * @property {any} [call]
 * @property {any} [error]
 * @property {string} [word]
 * @property {Record<string, string | number>} [values]
 *
 * @typedef {{number: number, name: string, model: string, why: string, at: number, end: number | null,
 *            first: number | null, error: any, parts: string[], warnings?: string[]}} Attempt
 */

const CUT = new Set(["retrying", "failed", "interrupted", "deferred"]);
const NOTES = new Set(["paused", "resumed", "postponed", "interrupted", "deferred", "cancelled", "rerun"]);
const FINISHED = new Set(["completed", "failed", "cancelled"]);
const GROWS = new Set(["chunk", "reasoning", "tool_output"]);
const ASKS = new Set(["needs_approval", "needs_review"]);

export class TaskLog {
  constructor() {
    /** @type {Entry[]} */
    this.entries = [];
    /** @type {Attempt[]} */
    this.attempts = [];
    /** @type {Map<string, Entry>} */
    this.calls = new Map();
    /** Entries from here on are void where their step does not end. */
    this.open = 0;
    this.keys = 0;
    this.events = 0;
    this.step = 0;
    this.began = 0;
    this.status = "";
    this.finished = false;
    /** @type {Trace} */
    this.trace = new Trace(0);
    /** @type {any} */
    this.live = null;
    this.version = 0;
    /** Counts what changes more than a text that grows. */
    this.turns = 0;
  }

  /** @param {Event} event */
  add(event) {
    this.version += 1;
    if (event.type === "progress") {
      this.turns += 1;
      this.live = { ...event.data, at: Date.now() };
      return;
    }
    if (!this.began) {
      this.began = Date.parse(event.ts);
      this.trace = new Trace(this.began);
    }
    this.events += 1;
    const { kind } = this.trace;
    this.trace.add(event);
    if (!GROWS.has(event.type) || kind !== this.trace.kind) {
      this.turns += 1;
    }
    const at = Math.max(Date.parse(event.ts) - this.began, 0);
    const act = this.actions[event.type];
    act?.call(this, event.data, at);
  }

  /** @type {Record<string, (this: TaskLog, data: any, at: number) => void>} */
  actions = {
    chunk: (data, at) => this.text("answer", data, at),
    reasoning: (data, at) => this.text("think", data, at),
    status: (data, at) => this.moved(data, at),
    attempt: (data, at) => this.attempted(data, at),
    step: (data) => {
      this.discard();
      this.step = data.number;
    },
    message: (data) => this.ended(data),
    tool_call: (data, at) => this.asked(data, at),
    tool_started: (data, at) => this.call(data.id, { state: "running", startedAt: at, output: [], checkpoint: data.checkpoint }),
    tool_output: (data) => this.output(data),
    tool_result: (data, at) => this.answered(data, at),
    rollback: (data, at) => {
      this.call(data.id, { state: "rolled_back", output: [] });
      this.note("rollback", at, { name: this.calls.get(data.id)?.call.name ?? "" });
    },
    approval: (data, at) => this.approval(data, at),
    retry: (data, at) => this.failed(data.why, at, { delay: data.delay_s }),
    recovery: (data, at) => this.note(`recovery.${data.step}`, at, { detail: data.detail ?? "" }),
  };

  /** @param {Partial<Entry> & {kind: Entry["kind"], at: number}} fields @returns {Entry} */
  put(fields) {
    this.keys += 1;
    const entry = { key: this.keys, version: 0, step: this.step || undefined, ...fields };
    this.entries.push(entry);
    return entry;
  }

  /** @param {string} word @param {number} at @param {Record<string, string | number>} [values] */
  note(word, at, values = {}) {
    this.close(at);
    this.put({ kind: "note", at, word, values });
  }

  get last() {
    return this.entries[this.entries.length - 1];
  }

  /** The text that grows has ended. @param {number} at */
  close(at) {
    const { last } = this;
    if (last && last.until === undefined && (last.kind === "think" || last.kind === "answer")) {
      last.until = at;
      last.version += 1;
    }
  }

  /** @param {"think" | "answer"} kind @param {any} data @param {number} at */
  text(kind, { text }, at) {
    const attempt = this.attempts[this.attempts.length - 1];
    if (attempt && attempt.first === null) {
      attempt.first = at;
    }
    let entry = this.last;
    if (entry?.kind !== kind || entry.until !== undefined) {
      this.close(at);
      entry = this.put({ kind, at, parts: [] });
    }
    entry.parts?.push(text);
    entry.version += 1;
  }

  /** Text since the last end is void: it goes to its attempt. */
  discard() {
    const attempt = this.attempts[this.attempts.length - 1];
    const kept = this.entries.slice(0, this.open);
    for (const entry of this.entries.slice(this.open)) {
      if (entry.kind === "answer" || entry.kind === "think") {
        if (entry.kind === "answer") {
          attempt?.parts.push(...(entry.parts ?? []));
        }
      } else {
        kept.push(entry);
      }
    }
    if (kept.length !== this.entries.length) {
      this.entries = kept;
    }
    this.open = this.entries.length;
  }

  /** @param {any} data @param {number} at */
  attempted(data, at) {
    this.discard();
    const { number, name, model, why, warnings } = data;
    this.attempts.push({ number, name, model, why, at, end: null, first: null, error: null, parts: [], warnings });
  }

  /** A step of an agent is whole. @param {any} data */
  ended({ step, usage }) {
    if (step !== undefined) {
      const thoughts = this.entries.slice(this.open).filter((entry) => entry.kind === "think");
      this.thought(thoughts, usage);
      this.open = this.entries.length;
    }
  }

  /** @param {Entry[]} thoughts @param {any} usage */
  thought(thoughts, usage) {
    const tokens = usage?.completion_tokens_details?.reasoning_tokens;
    if (thoughts.length === 1 && tokens) {
      thoughts[0].tokens = tokens;
      thoughts[0].version += 1;
    }
  }

  /** @param {any} data @param {number} at */
  asked(data, at) {
    this.close(at);
    if (data.name !== undefined || data.by !== undefined) {
      const call = { ...data, name: data.name ?? data.function?.name, state: data.by ? "running" : "asked", output: [] };
      call.arguments ??= data.function?.arguments;
      this.calls.set(data.id, this.put({ kind: "tool", at, call }));
      return;
    }
    // A piece of a call that the task's own client is to run.
    const key = `piece ${this.attempts.length} ${data.index}`;
    const held = this.calls.get(key);
    const more = data.function?.arguments ?? data.custom?.input ?? "";
    if (held) {
      this.call(key, { arguments: held.call.arguments + more });
    } else {
      const name = data.function?.name ?? data.custom?.name ?? "";
      const call = { id: data.id, name, arguments: more, state: "client", output: [] };
      this.calls.set(key, this.put({ kind: "tool", at, call }));
    }
  }

  /** @param {string} id @param {any} changes */
  call(id, changes) {
    const entry = this.calls.get(id);
    if (entry) {
      entry.call = { ...entry.call, ...changes };
      entry.version += 1;
    }
  }

  /** @param {any} data */
  output({ id, text }) {
    const entry = this.calls.get(id);
    if (entry) {
      entry.call.output.push(text);
      entry.version += 1;
    }
  }

  /** @param {any} data @param {number} at */
  answered(data, at) {
    if (!this.calls.has(data.id)) {
      this.asked({ ...data, arguments: "" }, at);
    }
    const ok = data.by ? !data.error : data.ok;
    const held = this.calls.get(data.id)?.call.state;
    const state = held === "denied" || held === "skip" ? held : ok ? "completed" : "failed";
    this.call(data.id, { state, result: data, endedAt: at });
  }

  /** @param {any} data @param {number} at */
  approval(data, at) {
    if (!this.calls.has(data.id)) {
      this.asked(data, at);
    }
    if (data.decision) {
      const state = { approved: "approved", denied: "denied", rerun: "approved", skip: "skip", fail: "failed" }[
        /** @type {string} */ (data.decision)
      ];
      this.call(data.id, { state, decision: data.decision, reason: data.reason, decidedAt: at, by: data.by });
    } else {
      const state = data.review ? "needs_review" : "needs_approval";
      this.call(data.id, { state, diff: data.diff, arguments: data.arguments ?? this.calls.get(data.id)?.call.arguments, askedAt: at });
    }
  }

  /** @param {any} error @param {number} at @param {any} [more] */
  failed(error, at, more = {}) {
    const attempt = this.attempts[this.attempts.length - 1];
    this.close(at);
    if (attempt && !attempt.error) {
      attempt.error = error;
    }
    const from = attempt ? (at - attempt.at) / 1000 : null;
    this.put({ kind: "error", at, error, values: { attempt: attempt?.number ?? 0, name: attempt?.name ?? "", after: from ?? -1, ...more } });
  }

  /** @param {any} data @param {number} at */
  moved(data, at) {
    const { status, cause, error, usage } = data;
    this.status = status;
    this.finished = FINISHED.has(status);
    this.close(at);
    if (status !== "running") {
      this.live = null;
      const attempt = this.attempts[this.attempts.length - 1];
      if (attempt && attempt.end === null) {
        attempt.end = at;
      }
    }
    if (cause === "rerun") {
      this.again();
    }
    this.thought(this.entries.slice(this.open).filter((entry) => entry.kind === "think"), usage);
    if (cause === "failed" && error) {
      this.failed(error, at);
    } else if (NOTES.has(cause) && !ASKS.has(error?.code)) {
      this.put({ kind: "note", at, word: cause, values: data.closed_ms === undefined ? {} : { ms: Math.round(data.closed_ms) } });
    }
    if (CUT.has(cause)) {
      this.stop();
    }
  }

  /** Calls that ran when the task was cut off do not run any more. */
  stop() {
    for (const [id, { call }] of this.calls) {
      if (call.state === "running") {
        this.call(id, { state: "cut" });
      }
    }
  }

  /** The task begins anew: what was before belongs to its attempts. */
  again() {
    this.open = 0;
    this.discard();
    this.entries = [];
    this.calls.clear();
    this.open = 0;
    this.step = 0;
  }

  /** The answer as it stands: the text of the last attempt, or of an agent's last step. */
  answer() {
    const texts = this.entries.filter((entry) => entry.kind === "answer");
    const own = this.step ? texts.filter((entry) => entry.step === texts[texts.length - 1]?.step) : texts;
    return own.flatMap((entry) => entry.parts ?? []).join("");
  }

  /** The calls that wait for a person. */
  get waiting() {
    return this.entries.filter((entry) => entry.kind === "tool" && /^needs_/.test(entry.call.state));
  }
}
