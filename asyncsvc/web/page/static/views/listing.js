/**
 * The tasks that the filters of the address let through, newest first: read in pages as far as the
 * reader scrolls, and kept true by the feed.
 */
import { api, query } from "../core/api.js";
import { watch } from "../core/feed.js";
import { getState, touch } from "../core/store.js";

/** @typedef {import("../core/types.js").Task} Task */

const PAGE = 200;
const FIRST = 60;
const AGAIN_MS = 800;
const RETRY_MS = 4000;
/** Filters of the address that the service knows; `status` may also be `all`. */
export const FILTERS = ["status", "model", "lane", "type", "session_id", "owner", "waiting_for", "q"];

/** @param {Record<string, string>} filters */
export function asked(filters) {
  const known = FILTERS.filter((name) => filters[name] && filters[name] !== "all");
  return Object.fromEntries(known.map((name) => [name, filters[name]]));
}

/** A task as it is kept for the list: without the parts of its route that only its own view shows.
 * @param {Task} task */
export function kept(task) {
  const { route, ...metadata } = task.metadata;
  return { ...task, metadata: { ...metadata, route: route && { chosen: route.chosen } } };
}

/** Newest first: ids are UUIDv7. @param {string} one @param {string} other */
const newer = (one, other) => (one < other ? 1 : one > other ? -1 : 0);

export class Listing {
  /**
   * @param {Record<string, string>} filters
   * @param {() => void} changed
   */
  constructor(filters, changed) {
    this.filters = asked(filters);
    this.changed = changed;
    /** @type {string[]} */
    this.ids = [];
    /** Newer ones that are not shown yet, as they would push what is read. @type {string[]} */
    this.held = [];
    this.holds = false;
    /** @type {string | null} */
    this.cursor = null;
    this.done = false;
    this.wanted = FIRST;
    this.reading = false;
    /** @type {any} */
    this.error = null;
    this.retryAt = 0;
    this.abort = new AbortController();
    this.retryTimer = /** @type {any} */ (0);
    this.lookTimer = /** @type {any} */ (0);
    this.unwatch = watch((id, task) => this.moved(id, task));
  }

  close() {
    this.abort.abort();
    this.unwatch();
    clearTimeout(this.retryTimer);
    clearTimeout(this.lookTimer);
  }

  /** Read on until that many tasks are known. @param {number} wanted */
  want(wanted) {
    this.wanted = Math.max(this.wanted, wanted);
    if (!this.reading && !this.error) {
      void this.read();
    }
  }

  async read() {
    this.reading = true;
    while (!this.done && this.ids.length < this.wanted) {
      const limit = this.ids.length ? (this.wanted - this.ids.length > PAGE ? 500 : PAGE) : FIRST;
      if (!(await this.page(limit, this.cursor))) {
        break;
      }
    }
    this.reading = false;
    this.changed();
  }

  /**
   * @param {number} limit
   * @param {string | null} cursor
   * @param {boolean} [looks]  for newer ones, not to read on
   */
  async page(limit, cursor, looks = false) {
    try {
      const path = `/tasks${query({ ...this.filters, limit, cursor })}`;
      const { tasks, next_cursor: next } = await api.get(path, this.abort.signal);
      this.error = null;
      if (this.add(tasks, cursor === null) || !looks) {
        this.cursor = next;
        this.done = next === null;
      }
      return true;
    } catch (error) {
      this.failed(error);
      return false;
    } finally {
      this.changed();
    }
  }

  /** @param {any} error */
  failed(error) {
    if (this.abort.signal.aborted) {
      return;
    }
    this.error = error;
    const wait = error.retryAfter ? error.retryAfter * 1000 : RETRY_MS;
    this.retryAt = Date.now() + wait;
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => this.retry(), wait);
  }

  retry() {
    clearTimeout(this.retryTimer);
    this.error = null;
    this.want(this.wanted);
  }

  /**
   * @param {Task[]} tasks
   * @param {boolean} newest  the page is the first one
   * @returns {boolean} whether the list began anew with them
   */
  add(tasks, newest) {
    const held = getState().tasks;
    const known = new Set(this.ids.concat(this.held));
    const fresh = tasks.filter((task) => !known.has(task.task_id)).map((task) => task.task_id);
    for (const task of tasks) {
      held.set(task.task_id, kept(task));
    }
    const anew = newest && this.ids.length > 0 && fresh.length === FIRST;
    if (anew) {
      // So many came that the page does not reach what is known.
      this.ids = [];
      this.held = [];
    }
    if (newest && this.holds && this.ids.length) {
      const top = this.ids[0];
      this.held = [...this.held, ...fresh.filter((id) => id > top)].sort(newer);
      this.put(fresh.filter((id) => id <= top));
    } else {
      this.put(fresh);
    }
    touch();
    return anew;
  }

  /** @param {string[]} fresh */
  put(fresh) {
    if (fresh.length) {
      this.ids = [...this.ids, ...fresh].sort(newer);
    }
  }

  /** Show the newer ones, too. */
  release() {
    this.holds = false;
    this.put(this.held);
    this.held = [];
    this.changed();
  }

  /** A task has changed its state. @param {string | null} id @param {Task | undefined} task */
  moved(id, task) {
    const { status } = this.filters;
    if (id === null) {
      this.ids = [];
      this.held = [];
      this.cursor = null;
      this.done = false;
      this.want(FIRST);
    } else if (task && status) {
      const shown = this.ids.includes(id);
      if (shown && task.status !== status) {
        this.ids = this.ids.filter((one) => one !== id);
        this.held = this.held.filter((one) => one !== id);
        this.changed();
      } else if (!shown && task.status === status) {
        this.look();
      }
    } else if (!task) {
      this.look();
    }
  }

  /** Read the first page again, soon. */
  look() {
    if (!this.lookTimer) {
      this.lookTimer = setTimeout(async () => {
        await this.page(FIRST, null, true);
        this.lookTimer = 0;
      }, AGAIN_MS);
    }
  }

  /** @param {string} id  it was deleted */
  drop(id) {
    this.ids = this.ids.filter((one) => one !== id);
    getState().tasks.delete(id);
    this.changed();
  }
}
