/**
 * The token of the person: in memory, and in session storage only where the person chose so.
 * It is sent in a header or as a subprotocol, never in an address.
 */
import { load, save } from "./saved.js";

let held = load("token", "", "sessionStorage");

export function token() {
  return held;
}

/**
 * @param {string} value
 * @param {boolean} keep  until the tab is closed
 */
export function setToken(value, keep) {
  held = value;
  if (keep || !value) {
    save("token", value, "sessionStorage");
  }
}
