/**
 * The keyboard: which key does what, by the part of the page that is shown.
 *
 * A single key never works while a field has the focus, and not at all where the person has
 * switched them off (WCAG 2.1.4). "g t" is g and then t; "Shift x" and "Ctrl Enter" are together.
 */
import { useEffect, useRef } from "./html.js";
import { load, save } from "./saved.js";

/** @typedef {Record<string, (event: KeyboardEvent) => void | boolean>} Table  false: not handled */

/** @type {{scope: string, table: {current: Table}}[]} */
const scopes = [];
let first = "";
let firstAt = 0;
const SECOND_WITHIN_MS = 1500;

export function keysOn() {
  return load("keys", "on") === "on";
}

/** @param {boolean} on */
export function setKeysOn(on) {
  save("keys", on ? "on" : "off");
}

/** @param {EventTarget | null} target */
function inField(target) {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) &&
    !(target instanceof HTMLInputElement && /^(checkbox|radio|button)$/.test(target.type))
  );
}

/** @param {KeyboardEvent} event */
function named(event) {
  const shift = event.shiftKey && /^[A-Za-z]$|^.{2,}$/.test(event.key) ? "Shift " : "";
  const ctrl = event.ctrlKey || event.metaKey ? "Ctrl " : "";
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return `${ctrl}${shift}${key === " " ? "Space" : key}`;
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  if (event.defaultPrevented || event.isComposing || event.altKey) {
    return;
  }
  const name = named(event);
  const alone = !name.startsWith("Ctrl ");
  if (alone && name !== "Escape" && (inField(event.target) || (name.length === 1 && !keysOn()))) {
    return;
  }
  if (!alone && inField(event.target) && name !== "Ctrl Enter") {
    return;
  }
  const pair = first && Date.now() - firstAt < SECOND_WITHIN_MS ? `${first} ${name}` : "";
  first = "";
  for (const candidate of [pair, name].filter(Boolean)) {
    for (const { table } of [...scopes].reverse()) {
      const act = table.current[candidate];
      if (act && act(event) !== false) {
        event.preventDefault();
        return;
      }
    }
  }
  if (scopes.some(({ table }) => Object.keys(table.current).some((key) => key.startsWith(`${name} `)))) {
    first = name;
    firstAt = Date.now();
  }
}

/**
 * While the component is shown, its keys work; those of a later one go first.
 * @param {string} scope
 * @param {Table} table
 */
export function useKeys(scope, table) {
  const held = useRef(table);
  held.current = table;
  useEffect(() => {
    const entry = { scope, table: held };
    scopes.push(entry);
    return () => {
      scopes.splice(scopes.indexOf(entry), 1);
    };
  }, []);
}

export function startKeys() {
  addEventListener("keydown", pressed);
}
