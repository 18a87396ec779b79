/**
 * Parts of forms and tables: a button, a field with its label, hint or fault, a choice of few, what is
 * folded away, and a moment in few words.
 */

import { html, useState } from "../core/html.js";
import { Sign } from "../core/parts.js";
import { getState } from "../core/store.js";

/**
 * @param {{kind?: string, type?: string, onClick?: () => void, disabled?: boolean, label?: string,
 *   pressed?: boolean, children: any}} props  `label`: what a screen reader says, where the word alone says too little.
 */
export function Button({ kind = "", type = "button", onClick, disabled, label, pressed, children }) {
  return html`<button type=${type} class=${`btn ${kind}`} aria-label=${label} aria-pressed=${pressed} disabled=${disabled} onClick=${onClick}>
    ${children}
  </button>`;
}

/**
 * An action that the service may refuse: `run` begins it, `error` is why it was refused, `busy`
 * whether it is under way. What is in `act` after the call is done only where it was allowed.
 *
 * @template {any[]} A
 * @param {(...given: A) => Promise<void>} act
 * @returns {{run: (...given: A) => Promise<void>, busy: boolean, error: any}}
 */
export function useAction(act) {
  const [state, set] = useState(/** @type {{busy: boolean, error: any}} */ ({ busy: false, error: null }));
  const run = async (/** @type {A} */ ...given) => {
    set({ busy: true, error: null });
    let error = null;
    try {
      await act(...given);
    } catch (refused) {
      error = refused;
    }
    set({ busy: false, error });
  };
  return { ...state, run };
}

/** Why an action was refused, where its button is. @param {{error: any}} props */
export function Refused({ error }) {
  return error && html`<small class="st-failed" role="status">${error.message}</small>`;
}

/**
 * A button for what cannot be undone: the first press asks, the second one, with its own words, acts.
 *
 * @param {{word: string, label?: string, kind?: string, yes: string, no: string, act: () => Promise<void>}} props
 */
export function Asked({ word, label, kind, yes, no, act }) {
  const [asking, ask] = useState(false);
  const { run, busy, error } = useAction(act);
  if (error) return html`<${Refused} error=${error} />`;
  if (!asking) return html`<${Button} kind=${kind} label=${label} onClick=${() => ask(true)}>${word}<//>`;
  return html`<span class="asking">
    <${Button} onClick=${() => ask(false)}>${no}<//>
    <${Button} kind="main" disabled=${busy} onClick=${run}>${yes}<//>
  </span>`;
}

/**
 * A label above, an input, and a hint below, of which a fault takes the place.
 *
 * @param {{id: string, label: string, small?: string, hint?: any, fault?: string | null, hidden?: boolean,
 *   wide?: boolean, children: any}} props
 */
export function Field({ id, label, small, hint, fault, hidden, wide, children }) {
  return html`<div class=${wide ? "field wide" : "field"}>
    <label class=${hidden ? "vh" : "l"} for=${id}
      >${label}${small && html` <small class="ink3">${small}</small>`}</label
    >
    ${children} <${Below} id=${id} hint=${hint} fault=${fault} />
  </div>`;
}

/** @param {{id: string, hint?: any, fault?: string | null}} props */
function Below({ id, hint, fault }) {
  if (fault) {
    return html`<p class="wrong" id=${`${id}-fault`} role="alert"><${Sign} name="failed" /><span>${fault}</span></p>`;
  }
  return hint ? html`<p class="hint" id=${`${id}-fault`}>${hint}</p>` : null;
}

/**
 * A line of text. `fault` is told beside it and read with it.
 *
 * @param {{id: string, label: string, value: string, set: (value: string) => void, fault?: string | null,
 *   hint?: any, small?: string, type?: string, mode?: string, list?: string, holder?: string,
 *   wide?: boolean, rows?: number}} props
 */
export function Text(props) {
  const { id, value, set, fault, hint, type = "text", mode, list, holder, rows } = props;
  const shared = {
    id,
    value,
    placeholder: holder,
    "aria-invalid": fault ? "true" : undefined,
    "aria-describedby": fault || hint ? `${id}-fault` : undefined,
    onInput: (/** @type {any} */ event) => set(event.currentTarget.value),
  };
  return html`<${Field} ...${props}>
    ${rows
      ? html`<textarea ...${shared} class="mono small" rows=${rows} spellcheck=${false}></textarea>`
      : html`<input ...${shared} type=${type} inputmode=${mode} list=${list} autocomplete="off" />`}
  <//>`;
}

/**
 * A choice of few, all in view.
 *
 * @param {{label: string, small?: string, name: string, value: string, options: [string, string][],
 *   set: (value: string) => void, bare?: boolean}} props
 */
export function Choice({ label, small, name, value, options, set, bare }) {
  const choice = html`<span class="seg" role="radiogroup" aria-label=${label}>
    ${options.map(
      ([key, word]) =>
        html`<label
          ><input type="radio" name=${name} value=${key} checked=${key === value} onChange=${() => set(key)} />${word}</label
        >`,
    )}
  </span>`;
  if (bare) return choice;
  return html`<div class="field">
    <span class="l" aria-hidden="true">${label}${small && html` <small class="ink3">${small}</small>`}</span>${choice}
  </div>`;
}

/** @param {{title: string, small?: string, open?: boolean, children: any}} props */
export function Folded({ title, small, open = false, children }) {
  const [shown, show] = useState(open);
  return html`<div class="field">
    <button class="fold" type="button" aria-expanded=${shown || open} onClick=${() => show(!shown)}>
      <${Sign} name=${shown || open ? "open" : "fold"} />${title} ${small && html`<span>${small}</span>`}
    </button>
    ${(shown || open) && children}
  </div>`;
}

/** A moment: the time alone where it is today, else with the day. @param {string | number} when */
export function moment(when) {
  const date = new Date(when);
  const { lang } = getState();
  const time = date.toLocaleTimeString(lang, { hour: "2-digit", minute: "2-digit", hour12: false });
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.toLocaleDateString(lang, { month: "short", day: "numeric", weekday: "short" })} ${time}`;
}
