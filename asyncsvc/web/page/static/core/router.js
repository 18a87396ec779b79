/**
 * The address of the page: `#/tasks/ID?status=failed`. An area, what is open in it, and every
 * filter stand in it, so that a link can be shared and Back works.
 */
import { getState, set } from "./store.js";

/**
 * @param {string} hash
 * @returns {import("./types.js").Route}
 */
export function parse(hash) {
  const [path, search = ""] = hash.replace(/^#?\/?/, "").split("?", 2);
  const [area, id, tab] = path.split("/").map(decoded);
  const filters = Object.fromEntries(new URLSearchParams(search));
  return { area: area || "tasks", id: id || null, tab: tab || null, filters };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * The address of a place.
 * @param {{area: string, id?: string | null, tab?: string | null,
 *          filters?: Record<string, string | null | undefined>}} place
 */
export function href({ area, id, tab, filters = {} }) {
  const path = [area, id, id && tab].filter(Boolean).map((part) => encodeURIComponent(String(part)));
  const given = Object.entries(filters).filter(([, value]) => value);
  const search = new URLSearchParams(/** @type {[string, string][]} */ (given)).toString();
  return `#/${path.join("/")}${search && `?${search}`}`;
}

/**
 * @param {string} address  from `href`
 * @param {{replace?: boolean}} [how]  replace: Back does not come here again
 */
export function go(address, { replace = false } = {}) {
  if (address === location.hash) {
    return;
  }
  if (replace) {
    history.replaceState(null, "", address);
    look();
  } else {
    location.hash = address.slice(1);
  }
}

/** The address of the open area with other filters. @param {Record<string, string | null>} filters */
export function withFilters(filters) {
  const { area, id, tab, filters: held } = getState().route;
  return href({ area, id, tab, filters: { ...held, ...filters } });
}

function look() {
  set({ route: parse(location.hash) });
}

export function startRouter() {
  addEventListener("hashchange", look);
  set({ route: parse(location.hash) });
}
