/**
 * Parts that every area uses: signs of states, traces, errors, copy buttons, questions before what
 * cannot be undone.
 */
import { ApiError } from "./api.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { visible } from "./format.js";
import { has, t } from "./text.js";

const CALLS = new Set(["needs_approval", "needs_review"]);

/** The state as it is shown: `call` where a person is needed. @param {any} task @returns {string} */
export function stateOf(task) {
  return task.status === "paused" && CALLS.has(task.error?.code) ? "call" : task.status;
}

/** @param {{name: string, state?: string}} props */
export function Sign({ name, state = "" }) {
  const kind = state && `st-${state}`;
  return html`<svg class="sign ${kind}" aria-hidden="true"><use href="#${name}" /></svg>`;
}

/** A sign alone, with its word as title and for screen readers. @param {{state: string}} props */
export function StateSign({ state }) {
  const word = t(`core.state.${state}`);
  return html`<span title=${word}><${Sign} name=${state} state=${state} /><span class="vh">${word}</span></span>`;
}

/** @param {{state: string, word?: string}} props */
export function StateWord({ state, word }) {
  return html`<span class="state st-${state}"
    ><${Sign} name=${state} state=${state} />${word ?? t(`core.state.${state}`)}</span
  >`;
}

/** Figures of a drawn segment: [y, height] of a small trace and of a large one. */
const HEIGHTS = {
  wait: [8, 2, 38, 2],
  think: [6.4, 3.6, 31, 9],
  say: [2, 8, 20, 20],
  tool: [2.5, 7, 20.5, 19],
  ask: [8, 2, 38, 2],
};

/** @param {number} part */
const percent = (part) => `${(part * 100).toFixed(2)}%`;

/** @param {import("./trace.js").Segment} segment @param {number} total @param {boolean} large */
function drawn({ kind, from, to, now, cut }, total, large) {
  const offset = large ? 2 : 0;
  const x = percent(from / total);
  const end = percent(to / total);
  const width = percent((to - from) / total);
  const tone = now ? " now" : "";
  const parts = [];
  if (kind === "first") {
    const y = large ? 39 : 9;
    parts.push(html`<line class="first${tone}" x1=${x} x2=${end} y1=${y} y2=${y} />`);
  } else if (kind in HEIGHTS) {
    const sizes = HEIGHTS[/** @type {keyof typeof HEIGHTS} */ (kind)];
    const [y, height] = [sizes[offset], sizes[offset + 1]];
    parts.push(html`<rect class="${kind}${tone}" x=${x} y=${y} width=${width} height=${height} />`);
    if (kind === "ask") {
      parts.push(html`<rect class="ask" x=${x} y=${large ? 20 : 2} width="2" height=${large ? 20 : 8} />`);
    }
  }
  if (cut) {
    const [y, height] = large ? [17, 23] : [-1, 11];
    parts.push(html`<rect class="cut-off" x=${end} transform="translate(-2 0)" y=${y} width="2" height=${height} />`);
  }
  return parts;
}

/**
 * The segments of a trace as parts of an SVG.
 * @param {import("./trace.js").Segment[]} segments
 * @param {number} total  ms for the full width
 * @param {boolean} [large]
 */
export function traceParts(segments, total, large = false) {
  return total > 0 ? segments.map((segment) => drawn(segment, total, large)) : null;
}

/** A trace in a row. @param {{segments: import("./trace.js").Segment[], total: number}} props */
export function SmallTrace({ segments, total }) {
  return html`<svg class="trace" aria-hidden="true">${traceParts(segments, total)}</svg>`;
}

/**
 * A button that copies and says so where it stands.
 * @param {{text: string | (() => string | Promise<string>), label?: string, cls?: string, title?: string}} props
 */
export function Copy({ text, label, cls = "btn plain", title }) {
  const [done, setDone] = useState("");
  const timer = useRef(/** @type {any} */ (0));
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(typeof text === "string" ? text : await text());
      setDone("core.copied");
    } catch {
      setDone("core.not_copied");
    }
    timer.current = setTimeout(() => setDone(""), 2000);
  };
  return html`<button type="button" class=${cls} title=${title} onClick=${copy}>
    ${done ? t(done) : (label ?? t("core.copy"))}
  </button>`;
}

/** What a code of an error means, in words of the page. @param {string} code */
export function sentence(code) {
  return has(`errors.${code}`) ? t(`errors.${code}`) : "";
}

/** @param {{text: string}} props */
export function Cut({ text }) {
  const [open, setOpen] = useState(false);
  const long = text.length > 240 || text.split("\n").length > 3;
  return html`<p>
    <q class=${open ? "all" : ""}><bdi>${visible(text)}</bdi></q>
    ${long &&
    html`<button type="button" class="fold" aria-expanded=${open} onClick=${() => setOpen(!open)}>
      ${t(open ? "core.show_less" : "core.show_all")}
    </button>`}
  </p>`;
}

/**
 * An error: its code and place, our sentence, the words of who said it, what to do.
 * @param {{error: any, where?: string, children?: any}} props
 */
export function ErrorBlock({ error, where = "", children }) {
  const code = error instanceof ApiError || error.code ? error.code : "internal";
  const ours = sentence(code);
  const words = String(error.message ?? error);
  return html`<div class="err" role="group" aria-label=${code}>
    <p><b class="st-failed">${code}</b> <span class="ink2">${where}</span></p>
    ${ours && html`<p>${ours}</p>`}
    ${words && words !== ours && html`<${Cut} text=${words} />`}
    ${children && html`<p class="ink2">${children}</p>`}
  </div>`;
}

/**
 * Asked before what cannot be undone; the number stands in the button.
 * @param {{question: string, yes: string, no?: string, onYes: () => void, onNo: () => void}} props
 */
export function Ask({ question, yes, no, onYes, onNo }) {
  const button = useRef(/** @type {HTMLButtonElement | null} */ (null));
  useEffect(() => button.current?.focus(), []);
  return html`<div class="decide" role="alertdialog" aria-label=${question}>
    <p>${question}</p>
    <button type="button" class="btn" ref=${button} onClick=${onNo}>${no ?? t("core.keep")}</button>
    <button type="button" class="btn main" onClick=${onYes}>${yes}</button>
  </div>`;
}

/**
 * A dialog over the page that Escape closes and the focus stays in.
 * @param {{title: string, onClose: () => void, children: any}} props
 */
export function Dialog({ title, onClose, children }) {
  const box = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const held = box.current;
    held?.showModal();
    return () => held?.close();
  }, []);
  return html`<dialog ref=${box} aria-label=${title} onClose=${onClose} onCancel=${onClose}>
    <header>
      <h2>${title}</h2>
      <button type="button" class="btn plain end" onClick=${onClose}>${t("core.close")}</button>
    </header>
    ${children}
  </dialog>`;
}

/** The time, once a second while something moves. @param {boolean} moves */
export function useNow(moves) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!moves) {
      return;
    }
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const timer = setInterval(() => setNow(Date.now()), calm ? 5000 : 1000);
    setNow(Date.now());
    return () => clearInterval(timer);
  }, [moves]);
  return now;
}
