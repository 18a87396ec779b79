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
const LOOK_MOST = 200;
/** Tasks that are looked for one by one, at most; for more the list is read anew. */
const SOUGHT_MOST = 20;
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
    /** Tasks that may belong into the list since the last look. @type {Set<string>} */
    this.sought = new Set();
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
      if (this.add(tasks, cursor === null, next !== null) || !looks) {
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
   * The tasks of a page, in the order of the service.
   * @param {Task[]} tasks
   * @param {boolean} newest  the page is the first one
   * @param {boolean} full  more may follow
   * @returns {boolean} whether the list began anew with them
   */
  add(tasks, newest, full) {
    for (const task of tasks) {
      getState().tasks.set(task.task_id, kept(task));
    }
    touch();
    const page = tasks.map((task) => task.task_id);
    const known = new Set(this.ids);
    if (!newest || !this.ids.length) {
      this.ids = [...this.ids, ...page.filter((id) => !known.has(id))];
      return false;
    }
    const first = page.findIndex((id) => known.has(id));
    if (first < 0 && full) {
      // So many came that the page does not reach what is known.
      this.ids = page;
      this.held = [];
      return true;
    }
    const fresh = first < 0 ? page : page.slice(0, first);
    const listed = new Set(page);
    this.held = this.holds ? fresh : [];
    this.ids = [
      ...(this.holds ? [] : fresh),
      ...page.slice(fresh.length),
      ...this.ids.filter((id) => !listed.has(id)),
    ];
    return false;
  }

  /** Show the newer ones, too. */
  release() {
    this.holds = false;
    this.ids = [...this.held, ...this.ids];
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
        this.look(id);
      }
    } else if (!task) {
      this.look(id);
    }
  }

  /** Read the first page again, soon. @param {string} id  the task that it is for */
  look(id) {
    this.sought.add(id);
    if (!this.lookTimer) {
      this.lookTimer = setTimeout(async () => {
        const limit = Math.min(Math.max(this.ids.length, FIRST), LOOK_MOST);
        const sought = [...this.sought];
        this.sought.clear();
        await this.page(limit, null, true);
        await this.seek(sought);
        this.lookTimer = 0;
      }, AGAIN_MS);
    }
  }

  /**
   * Read those tasks that stand further down than the first page reaches, each by its id.
   * @param {string[]} sought
   */
  async seek(sought) {
    const known = new Set([...this.ids, ...this.held]);
    const last = this.ids[this.ids.length - 1];
    // Ids begin with the time: an older one than the last is read when the reader comes there.
    const missing = sought.filter((id) => !known.has(id) && (this.done || id > last));
    if (missing.length > SOUGHT_MOST) {
      this.moved(null, undefined);
      return;
    }
    try {
      for (const id of missing) {
        const { tasks } = await api.get(`/tasks${query({ ...this.filters, id_ends: id, limit: 1 })}`, this.abort.signal);
        tasks.forEach((/** @type {Task} */ task) => this.insert(task));
      }
    } catch (error) {
      this.failed(error);
    }
  }

  /** Take a task into its place. @param {Task} task */
  insert(task) {
    getState().tasks.set(task.task_id, kept(task));
    const older = this.ids.findIndex((id) => id < task.task_id);
    this.ids = older < 0 ? [...this.ids, task.task_id] : [...this.ids.slice(0, older), task.task_id, ...this.ids.slice(older)];
    touch();
    this.changed();
  }

  /** @param {string} id  it was deleted */
  drop(id) {
    this.ids = this.ids.filter((one) => one !== id);
    getState().tasks.delete(id);
    this.changed();
  }
}
