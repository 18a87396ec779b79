/**
 * Figures in words: seconds, times, sizes, counts; unknown is "–", never 0.
 */
import { getState } from "./store.js";
import { t } from "./text.js";

const NONE = "–";

/** @param {number} value @param {number} digits */
function fixed(value, digits) {
  return value.toLocaleString(getState().lang, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** @param {number | null | undefined} value @param {number} [digits] */
export function count(value, digits = 0) {
  return value == null ? NONE : fixed(value, digits);
}

/**
 * A length: 0.81 s, 4.2 s, 48 s, 12 min, 3.5 h.
 * @param {number | null | undefined} value  in seconds
 */
export function seconds(value) {
  if (value == null) {
    return NONE;
  }
  if (value < 60) {
    return t("core.s", { n: fixed(value, value < 1 ? 2 : value < 10 ? 1 : 0) });
  }
  if (value < 3600) {
    return t("core.min", { n: fixed(value / 60, 0) });
  }
  return value < 172800
    ? t("core.h", { n: fixed(value / 3600, value < 36000 ? 1 : 0) })
    : t("core.d", { n: fixed(value / 86400, 0) });
}

/**
 * A place in a log: 1:36.4.
 * @param {number} value  in seconds
 */
export function clock(value) {
  const tenths = Math.max(Math.floor(value * 10), 0);
  const [minutes, rest] = [Math.floor(tenths / 600), (tenths % 600) / 10];
  const shown = rest.toFixed(1).padStart(4, "0");
  const hours = Math.floor(minutes / 60);
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${shown.slice(0, 2)}` : `${minutes}:${shown}`;
}

/**
 * "in 18 min", "4 min ago".
 * @param {string | number | null | undefined} when
 * @param {number} [now]
 */
export function relative(when, now = Date.now()) {
  if (when == null) {
    return NONE;
  }
  const away = (new Date(when).getTime() - now) / 1000;
  const length = seconds(Math.abs(away) < 60 ? Math.round(Math.abs(away)) + 1e-9 : Math.abs(away));
  return t(away > 0 ? "core.in" : "core.ago", { length });
}

/**
 * A moment in the local zone, for a hint.
 * @param {string | number | null | undefined} when
 */
export function exact(when) {
  if (when == null) {
    return NONE;
  }
  const date = new Date(when);
  const words = date.toLocaleString(getState().lang, { dateStyle: "medium", timeStyle: "medium" });
  return `${words} · ${date.toISOString()}`;
}

/** The time of the day. @param {string | number} when */
export function daytime(when) {
  return new Date(when).toLocaleTimeString(getState().lang, { hour12: false });
}

/** @param {number | null | undefined} value */
export function bytes(value) {
  if (value == null) {
    return NONE;
  }
  const steps = ["B", "kB", "MB", "GB"];
  let step = 0;
  let rest = value;
  while (rest >= 1000 && step < steps.length - 1) {
    rest /= 1000;
    step += 1;
  }
  return `${fixed(rest, step && rest < 10 ? 1 : 0)} ${steps[step]}`;
}

/** The random end of an id, by which people tell tasks apart. @param {string} id */
export function short(id) {
  return id.slice(-6);
}

/** Control and direction characters as visible signs: they could make a text look like another.
 * @param {string} text */
export function visible(text) {
  return text.replace(
    // eslint-disable-next-line no-control-regex
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufeff]/g,
    (sign) => (sign === "\r" ? "" : `⟨${sign.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`),
  );
}
