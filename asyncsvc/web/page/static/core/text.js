/**
 * All words of the page, in the language of the reader: `t("task.waited", {seconds})`.
 *
 * A text is a string with `{name}` where a value stands, or an object with the forms of
 * `Intl.PluralRules`, chosen by the value `count`, or by the place `nth`.
 */
import { read } from "./lang.js";
import { save } from "./saved.js";
import { getState, set } from "./store.js";

/** @type {Record<string, string | Record<string, string>>} */
let texts = {};
let rules = new Intl.PluralRules("en");
let places = new Intl.PluralRules("en", { type: "ordinal" });

/** @param {string} lang */
export async function setLang(lang) {
  texts = await read(lang);
  rules = new Intl.PluralRules(lang);
  places = new Intl.PluralRules(lang, { type: "ordinal" });
  document.documentElement.lang = lang === "zh" ? "zh-CN" : lang;
  set({ lang });
}

/** @param {string} lang */
export async function chooseLang(lang) {
  save("lang", lang);
  await setLang(lang);
}

/** @param {string} key */
export function has(key) {
  return key in texts;
}

/**
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  const found = texts[key];
  if (found === undefined) {
    return key;
  }
  const form = "nth" in values ? places.select(Number(values.nth)) : rules.select(Number(values.count));
  const text = typeof found === "string" ? found : (found[form] ?? found.other);
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === "number" ? shown(value) : value;
  });
}

/** @param {number} value */
function shown(value) {
  return value.toLocaleString(getState().lang);
}

/** The first of the keys that there is. @param {string[]} keys */
export function anyOf(...keys) {
  const key = keys.find(has);
  return key === undefined ? "" : t(key);
}
