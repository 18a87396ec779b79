/**
 * Which language is spoken, and reading its texts: begun before all else, as nothing can be shown
 * without them.
 */
import { load } from "./saved.js";

/** The modules of each language; the keys of one begin with its name and a dot. */
export const AREAS = [
  ...["core", "tasks", "task", "errors", "signin", "help"],
  ...["models", "overview", "schedules", "batches", "settings", "new", "first"],
];
export const LANGUAGES = ["en", "zh"];


/** @param {string} lang @returns {Promise<Record<string, any>>} */
export async function read(lang) {
  const parts = await Promise.all(AREAS.map((area) => import(`../texts/${lang}/${area}.js`)));
  return Object.assign({}, ...parts.map((part) => part.default));
}

export function firstLang() {
  const chosen = load("lang");
  if (LANGUAGES.includes(chosen)) {
    return chosen;
  }
  const wanted = navigator.languages.map((one) => one.slice(0, 2).toLowerCase());
  return wanted.find((one) => LANGUAGES.includes(one)) ?? "en";
}

void read(firstLang());
