/**
 * One WebSocket for the whole page, by which all events come.
 *
 * It follows the feed of all tasks from the last event that it has seen, and any number of single
 * tasks from their own cursors. A lost connection is made again by itself, with both kinds of
 * cursors, so that each event of a followed task is given exactly once and in order, also across a
 * restart of the service. After a long absence the feed begins anew, and `missed` is called.
 */
import { api, ApiError } from "./api.js";
import { getState, set } from "./store.js";
import { token } from "./token.js";

const BACKOFF_MS = [300, 600, 1200, 2500, 5000];
const PING_MS = 15000;
const SILENT_MS = 25000;
const RESUME_WITHIN_MS = 60000;
const LAG_EVERY_MS = 500;
const UNKNOWN_TASK = "task_not_found";

/**
 * @typedef {object} Follower
 * @property {number} after  the number of the last event that was given
 * @property {number} known  the number of the last event when the following began
 * @property {(event: import("./types.js").Event) => void} event
 * @property {(error: any) => void} gone  the task cannot be followed
 * @property {() => void} again  what was given is void: the events come again from the first
 */

/** @type {Map<string, Follower>} */
const followers = new Map();
/** @type {WebSocket | null} */
let socket = null;
/** Of tasks that are followed no more: the last event that was given. @type {Map<string, number>} */
const ended = new Map();
let lastId = 0;
let lostAt = 0;
let tries = 0;
let heardAt = 0;
let lagAt = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
/** @type {{event: (event: any, followed: boolean) => void, missed: () => void, skips: (id: string, type: string) => boolean}} */
let feed = { event: () => {}, missed: () => {}, skips: () => false };

/** @param {Partial<import("./types.js").Connection>} patch */
function connection(patch) {
  const held = getState().connection;
  const since = patch.state && patch.state !== held.state ? Date.now() : held.since;
  set({ connection: { ...held, since, ...patch } });
}

/** @param {any} message */
function send(message) {
  if (socket?.readyState === WebSocket.OPEN) {
    socket.send(JSON.stringify(message));
  }
}

function address() {
  const url = new URL("ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  return url.href;
}

/** Events go to these handlers, once it is connected. @param {typeof feed} handlers */
export function startSocket(handlers) {
  feed = handlers;
  addEventListener("online", connectNow);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible" && getState().connection.state === "away") {
      connectNow();
    }
  });
  setInterval(beat, PING_MS);
}

/** Connect at once, where it is not connected. */
export function connectNow() {
  if (socket && socket.readyState <= WebSocket.OPEN) {
    return;
  }
  clearTimeout(timer);
  const held = token();
  const own = new WebSocket(address(), held ? ["asyncsvc", `bearer.${held}`] : ["asyncsvc"]);
  socket = own;
  own.onopen = opened;
  own.onmessage = (message) => received(String(message.data));
  own.onclose = (closed) => own === socket && lost(closed.code);
}

/** Close it and connect again, such as with another token. */
export function reconnect() {
  const old = socket;
  socket = null;
  old?.close();
  tries = 0;
  connectNow();
}

function opened() {
  const resumes = lastId > 0 && Date.now() - lostAt < RESUME_WITHIN_MS;
  const missed = lostAt > 0 && !resumes;
  heardAt = Date.now();
  tries = 0;
  send({ op: "subscribe", ref: "feed", all: true, text: false, ...(resumes ? { after_id: lastId } : {}) });
  for (const [id, { after }] of followers) {
    send({ op: "subscribe", ref: id, task_id: id, after });
  }
  connection({ state: "live", retryAt: null });
  if (missed || getState().models === null) {
    feed.missed();
  }
}

/** @param {number} code */
async function lost(code) {
  socket = null;
  if (getState().connection.state === "live") {
    lostAt = Date.now();
  }
  const wait = BACKOFF_MS[Math.min(tries, BACKOFF_MS.length - 1)] * (0.75 + Math.random() / 2);
  tries += 1;
  connection({ state: "away", retryAt: Date.now() + wait });
  clearTimeout(timer);
  timer = setTimeout(connectNow, wait);
  if (code === 1008 || tries > 1) {
    await refused();
  }
}

/** A browser does not say why a socket was refused; an HTTP call does. */
async function refused() {
  try {
    await api.get("/tasks?limit=1");
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      clearTimeout(timer);
    }
  }
}

function beat() {
  if (socket?.readyState === WebSocket.OPEN) {
    if (Date.now() - heardAt > SILENT_MS) {
      socket.close(); // half open: nothing was heard although we asked
      return;
    }
    send({ op: "ping", ref: "ping" });
  }
}

/** @param {string} text */
function received(text) {
  heardAt = Date.now();
  const head = text.slice(0, 200);
  const piece = /^\{"id":(\d+),"task_id":"([^"]+)","seq":\d+,"type":"(chunk|reasoning)"/.exec(head);
  if (piece && !followers.has(piece[2]) && feed.skips(piece[2], piece[3])) {
    lastId = Math.max(lastId, Number(piece[1])); // most of all events: they are not even parsed
    return;
  }
  const message = JSON.parse(text);
  if (message.op) {
    answered(message);
  } else {
    given(message);
  }
}

/** @param {any} message */
function answered({ op, ref, error, all, seq, after_id: after }) {
  const follower = followers.get(ref);
  if (op === "ok" && all) {
    lastId = after;
  } else if (op === "ok" && follower && follower.known === Infinity) {
    follower.known = seq;
  } else if (op === "error" && ref === "feed") {
    lastId = 0; // the service knows of no such event: another database
    send({ op: "subscribe", ref: "feed2", all: true, text: false });
    feed.missed();
  } else if (op === "error" && followers.has(ref)) {
    unknown(ref, error);
  }
}

/** @param {string} id @param {any} error */
function unknown(id, error) {
  const follower = /** @type {Follower} */ (followers.get(id));
  if (error.code !== UNKNOWN_TASK && error.param === "after" && follower.after > 0) {
    follower.after = 0;
    follower.again();
    send({ op: "subscribe", ref: id, task_id: id, after: 0 });
  } else {
    follower.gone(error);
  }
}

/**
 * A followed task's events come twice, by the feed and by its own subscription, in any order of the
 * two: the own ones count, and never move the cursor of the feed.
 * @param {import("./types.js").Event} event
 */
function given(event) {
  const { task_id: id, seq } = event;
  const follower = followers.get(id);
  if (seq === null) {
    follower?.event(event);
    feed.event(event, false);
  } else if (follower) {
    if (seq === follower.after + 1) {
      follower.after = seq;
      follower.event(event);
      if (seq > follower.known) {
        feed.event(event, true);
        lag(event);
      }
    }
  } else if (Number(event.id) > lastId) {
    lastId = Number(event.id);
    if (seq > (ended.get(id) ?? 0)) {
      feed.event(event, false);
      lag(event);
    }
  }
}

/** @param {import("./types.js").Event} event */
function lag(event) {
  const now = Date.now();
  if (now - lagAt > LAG_EVERY_MS) {
    lagAt = now;
    connection({ lagMs: Math.max(now - Date.parse(event.ts), 0) });
  }
}

/**
 * Follow one task from the event after `after`.
 * @param {string} id
 * @param {Omit<Follower, "after" | "known"> & {after?: number}} follower
 * @returns {() => void} ends it
 */
export function follow(id, follower) {
  const held = { after: 0, known: Infinity, ...follower };
  followers.set(id, held);
  send({ op: "subscribe", ref: id, task_id: id, after: held.after });
  return () => {
    if (followers.get(id) === held) {
      followers.delete(id);
      ended.set(id, held.after);
      send({ op: "unsubscribe", task_id: id });
    }
  };
}
