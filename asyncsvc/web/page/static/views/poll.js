/**
 * Reads of an address that are repeated while the view is on the screen.
 *
 * A hidden tab asks nothing. A read that fails keeps what was read before and says so, and is tried
 * again after the usual time; not so where the token does not allow it.
 */

import { api } from "../core/api.js";
import { useEffect, useRef, useState } from "../core/html.js";

export const FORBIDDEN = "forbidden_scope";

/**
 * @template T
 * @typedef {{data: T | null, error: Error | null, at: number, refresh: () => void}} Polled
 *   `at`: when `data` was read, ms since the epoch.
 */

/**
 * The JSON at a path, read now and every `everyMs` milliseconds; 0: once, and at each `refresh`.
 *
 * @template T
 * @param {string | null} path null: nothing is read
 * @param {number} everyMs
 * @returns {Polled<T>}
 */
export function usePoll(path, everyMs) {
  const [read, setRead] = useState(
    /** @type {{data: T | null, error: Error | null, at: number}} */ ({ data: null, error: null, at: 0 }),
  );
  const again = useRef(() => {});
  useEffect(() => {
    if (path === null) return undefined;
    const reader = new Reader(path, everyMs, setRead);
    again.current = () => reader.look();
    return () => reader.end();
  }, [path, everyMs]);
  return { ...read, refresh: () => again.current() };
}

/** The repeated reads of one path. An answer that comes after `end` is thrown away. */
class Reader {
  /**
   * @param {string} path
   * @param {number} everyMs
   * @param {(change: (before: any) => any) => void} set
   */
  constructor(path, everyMs, set) {
    this.path = path;
    this.everyMs = everyMs;
    this.set = set;
    this.ended = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.round = 0;
    this.seen = () => {
      if (!document.hidden && this.everyMs) this.look();
    };
    document.addEventListener("visibilitychange", this.seen);
    this.look();
  }

  async look() {
    clearTimeout(this.timer);
    const round = ++this.round;
    /** @type {{data?: unknown, error: Error | null, at?: number}} */
    let found;
    try {
      found = { data: await api.get(this.path), error: null, at: Date.now() };
    } catch (error) {
      found = { error: /** @type {Error} */ (error) };
    }
    if (this.ended || round !== this.round) return;
    this.set((before) => ({ ...before, ...found }));
    const refused = /** @type {any} */ (found.error)?.code === FORBIDDEN;
    if (this.everyMs && !document.hidden && !refused) this.timer = setTimeout(() => this.look(), this.everyMs);
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
  }
}
