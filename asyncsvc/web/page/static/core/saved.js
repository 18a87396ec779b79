/**
 * Choices of this browser that outlive a reload. Where storage is forbidden they last until then.
 */

/** @type {Map<string, string>} */
const here = new Map();

/**
 * @param {string} name
 * @param {string} [otherwise]
 * @param {"localStorage" | "sessionStorage"} [where]
 */
export function load(name, otherwise = "", where = "localStorage") {
  try {
    return window[where].getItem(`asyncsvc.${name}`) ?? here.get(name) ?? otherwise;
  } catch {
    return here.get(name) ?? otherwise;
  }
}

/**
 * @param {string} name
 * @param {string} value  empty: forgotten
 * @param {"localStorage" | "sessionStorage"} [where]
 */
export function save(name, value, where = "localStorage") {
  here.set(name, value);
  try {
    if (value) {
      window[where].setItem(`asyncsvc.${name}`, value);
    } else {
      window[where].removeItem(`asyncsvc.${name}`);
    }
  } catch {
    // It stays in `here`.
  }
}
