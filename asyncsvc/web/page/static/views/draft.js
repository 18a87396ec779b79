/**
 * What is being written in the form of a new task: kept in the browser until it is submitted, and
 * made into the body of `POST /tasks` or `POST /schedules`.
 *
 * A field that was left empty is not in the body, so that the settings of the service decide. What
 * cannot be a body at all (JSON that does not parse, a time that is none) is told by field; all else
 * is the service's to refuse.
 */

import { load, save } from "../core/saved.js";
import { token } from "../core/token.js";

/**
 * @typedef {"chat" | "agent" | "embedding"} Type
 * @typedef {{
 *   type: Type, content: string, model: string, lane: string, priority: number,
 *   when: "now" | "at" | "cron", run_at: string, cron: string, timezone: string, name: string,
 *   tools: string[] | null, approve: string[], files: Record<string, string>,
 *   fields: Record<string, string>,
 * }} Draft  `fields`: the text in the inputs of numbers, JSON and short texts, by the API's names.
 * @typedef {Record<string, string>} Faults by field
 */

const NAME = "draft";
const PARAMETERS = ["temperature", "top_p", "max_tokens", "seed"];
const NUMBERS = ["timeout_s", "max_retries", "max_wait_s", "max_steps", "token_budget"];
const TEXTS = ["session_id", "callback_url"];
const OF_AGENTS = ["max_steps", "token_budget"];

/** @returns {Draft} */
export function empty() {
  return {
    type: "chat",
    content: "",
    model: "",
    lane: "short",
    priority: 5,
    when: "now",
    run_at: "",
    cron: "0 9 * * 1-5",
    timezone: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC",
    name: "",
    tools: null,
    approve: [],
    files: {},
    fields: {},
  };
}

/** Where it is kept: with a token in use no longer than the tab is open. */
function shelf() {
  return token() ? "sessionStorage" : "localStorage";
}

/** What was kept, or an empty draft. @returns {Draft} */
export function kept() {
  try {
    return { ...empty(), ...JSON.parse(load(NAME, "{}", shelf())) };
  } catch {
    return empty();
  }
}

/** @param {Draft | null} draft null: nothing is kept any more */
export function keep(draft) {
  save(NAME, draft ? JSON.stringify(draft) : "", shelf());
}

/**
 * The body of a submit, and what of the draft cannot be one.
 *
 * @param {Draft} draft
 * @returns {{body: Record<string, any>, faults: Faults}}
 */
export function submission(draft) {
  /** @type {Faults} */
  const faults = {};
  /** @type {Record<string, any>} */
  const body = { [draft.type === "embedding" ? "input" : "content"]: draft.content };
  if (draft.type !== "chat") body.type = draft.type;
  if (draft.model) body.model = draft.model;
  if (draft.lane !== "short") body.lane = draft.lane;
  if (draft.priority !== 5) body.priority = draft.priority;
  if (draft.when === "at") body.run_at = moment(draft.run_at, faults);
  for (const name of NUMBERS) number(draft, name, body, faults);
  for (const name of TEXTS) if (text(draft, name)) body[name] = text(draft, name);
  const params = parameters(draft, faults);
  if (Object.keys(params).length) body.params = params;
  const metadata = object(draft, "metadata", faults);
  if (metadata) body.metadata = metadata;
  if (draft.fields.cache === "true" || draft.fields.cache === "false") body.cache = draft.fields.cache === "true";
  if (draft.type === "agent") agent(draft, body);
  return { body, faults };
}

/** The body of `POST /schedules`. @param {Draft} draft */
export function schedule(draft) {
  const { body, faults } = submission(draft);
  return {
    body: {
      cron: draft.cron.trim(),
      timezone: draft.timezone.trim() || "UTC",
      ...(draft.name.trim() ? { name: draft.name.trim() } : {}),
      task: body,
    },
    faults,
  };
}

/** @param {Draft} draft @param {Record<string, any>} body */
function agent(draft, body) {
  if (draft.tools !== null) body.tools = draft.tools;
  const asked = draft.approve.filter((name) => draft.tools === null || draft.tools.includes(name));
  if (asked.length) body.approve = asked;
  if (Object.keys(draft.files).length) body.files = draft.files;
}

/** @param {Draft} draft @param {string} name */
function text(draft, name) {
  return (draft.fields[name] ?? "").trim();
}

/** @param {Draft} draft @param {string} name @param {Record<string, any>} body @param {Faults} faults */
function number(draft, name, body, faults) {
  const found = text(draft, name);
  if (!found || (OF_AGENTS.includes(name) && draft.type !== "agent")) return;
  const value = Number(found.replace(/\s*s$/, ""));
  if (Number.isFinite(value)) body[name] = value;
  else faults[name] = "number";
}

/** @param {string} local as an input of type datetime-local gives it @param {Faults} faults */
function moment(local, faults) {
  const found = new Date(local);
  if (!local || Number.isNaN(found.getTime())) {
    faults.run_at = "time";
    return undefined;
  }
  return found.toISOString();
}

/** @param {Draft} draft @param {Faults} faults */
function parameters(draft, faults) {
  /** @type {Record<string, any>} */
  const params = { ...(object(draft, "params", faults) ?? {}) };
  for (const name of PARAMETERS) number({ ...draft, type: "agent" }, name, params, faults);
  if (text(draft, "thinking")) params.thinking = text(draft, "thinking");
  return params;
}

/** @param {Draft} draft @param {string} name @param {Faults} faults */
function object(draft, name, faults) {
  const found = text(draft, name);
  if (!found) return null;
  try {
    const value = JSON.parse(found);
    if (value && typeof value === "object" && !Array.isArray(value)) return value;
  } catch {
    // Told below, as for JSON of another kind.
  }
  faults[name] = "object";
  return null;
}

/**
 * A draft that would submit the same task again.
 *
 * @param {Record<string, any>} task a body of `POST /tasks`
 * @param {Partial<Draft>} rest
 * @returns {Draft}
 */
export function again(task, rest = {}) {
  const { params = {}, metadata } = task;
  const named = Object.fromEntries(PARAMETERS.filter((name) => name in params).map((name) => [name, String(params[name])]));
  const others = Object.fromEntries(Object.entries(params).filter(([name]) => !(name in named)));
  const given = [...NUMBERS, ...TEXTS].filter((name) => task[name] !== undefined && task[name] !== null);
  return {
    ...empty(),
    type: task.type ?? "chat",
    content: task.content ?? (typeof task.input === "string" ? task.input : (task.input ?? []).join("\n")) ?? "",
    model: task.model ?? "",
    lane: task.lane ?? "short",
    priority: task.priority ?? 5,
    tools: task.tools ?? null,
    approve: task.approve ?? [],
    files: task.files ?? {},
    fields: {
      ...named,
      ...Object.fromEntries(given.map((name) => [name, String(task[name])])),
      ...(Object.keys(others).length ? { params: JSON.stringify(others, null, 1) } : {}),
      ...(metadata ? { metadata: JSON.stringify(metadata, null, 1) } : {}),
    },
    ...rest,
  };
}
