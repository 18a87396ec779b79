/**
 * Calls of the service's HTTP API. Each answers JSON or throws an ApiError with the service's own
 * code and words.
 */
import { set } from "./store.js";
import { token } from "./token.js";

export class ApiError extends Error {
  /**
   * @param {number} status  0: there was no answer
   * @param {string} code
   * @param {string} message
   * @param {string | null} [param]
   * @param {number | null} [retryAfter]  seconds
   */
  constructor(status, code, message, param = null, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

/** @param {Response} response */
async function failure(response) {
  const after = Number(response.headers.get("retry-after"));
  let error = { code: `http_${response.status}`, message: response.statusText, param: null };
  try {
    error = (await response.json()).error;
  } catch {
    // An answer that is not the service's own, such as a proxy's.
  }
  return new ApiError(response.status, error.code, error.message, error.param, after || null);
}

/**
 * @param {string} path
 * @param {Omit<RequestInit, "headers"> & {headers?: Record<string, string>}} [options]
 * @returns {Promise<Response>}
 */
export async function call(path, options = {}) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json", ...options.headers };
  if (token()) {
    headers.authorization = `Bearer ${token()}`;
  }
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") {
      throw error;
    }
    throw new ApiError(0, "unreachable", String(error));
  }
  if (response.status === 401) {
    set({ who: "signed-out" });
  }
  if (!response.ok) {
    throw await failure(response);
  }
  return response;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {any} [body]
 * @param {AbortSignal} [signal]
 */
async function json(method, path, body, signal) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  /** @type {Record<string, string>} */
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  const response = await call(path, { method, headers, signal, ...sent });
  return response.status === 204 ? null : response.json();
}

/** @param {Record<string, string | number | null | undefined>} values */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value != null);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text && `?${text}`;
}

export const api = {
  /**
   * @param {string} path
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  get: (path, signal) => json("GET", path, undefined, signal),
  /**
   * @param {string} path
   * @param {any} [body]
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  post: (path, body, signal) => json("POST", path, body, signal),
  /** @param {string} path */
  del: (path) => json("DELETE", path),
  /**
   * @param {string} path
   * @param {AbortSignal} [signal]
   */
  text: async (path, signal) => (await call(path, { signal, headers: { accept: "*/*" } })).text(),
};
