/**
 * What can be done with a task in its state, and doing it: for one task and for many.
 */
import { api } from "../core/api.js";
import { countAgain } from "../core/feed.js";
import { stateOf } from "../core/parts.js";
import { getState, touch } from "../core/store.js";
import { kept } from "./listing.js";

/** @typedef {import("../core/types.js").Task} Task */

/** @type {Record<string, string[]>} */
const ALLOWED = {
  scheduled: ["pause", "cancel"],
  pending: ["pause", "cancel"],
  running: ["pause", "cancel"],
  paused: ["resume", "cancel"],
  call: ["cancel"],
  completed: ["retry", "delete"],
  failed: ["retry", "delete"],
  cancelled: ["retry", "delete"],
};
const AT_ONCE = 6;

/** The verbs that the state of a task allows, the main one first. @param {Task} task */
export function allowed(task) {
  return ALLOWED[stateOf(task)] ?? [];
}

/** Keep what an answer says of a task. @param {any} whole */
export function learn(whole) {
  const { tasks } = getState();
  const { content, messages, input, result, ...rest } = whole;
  const held = tasks.get(whole.task_id);
  const previews = { content_preview: "", result_preview: null, ...held };
  tasks.set(whole.task_id, { ...previews, ...kept(rest) });
  touch();
}

/**
 * @param {string} id
 * @param {string} verb
 * @param {any} [body]
 */
export async function steer(id, verb, body) {
  if (verb === "delete") {
    await api.del(`/tasks/${encodeURIComponent(id)}`);
  } else {
    learn(await api.post(`/tasks/${encodeURIComponent(id)}/${verb}`, body));
  }
  countAgain();
}

/**
 * Steer many tasks, a few at once.
 * @param {string[]} ids
 * @param {string} verb
 * @param {(done: number, errors: any[]) => void} progress
 */
export async function steerAll(ids, verb, progress) {
  const waiting = [...ids];
  /** @type {any[]} */
  const errors = [];
  let done = 0;
  const work = async () => {
    for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
      try {
        await steer(id, verb);
      } catch (error) {
        errors.push(error);
      }
      done += 1;
      progress(done, errors);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}
