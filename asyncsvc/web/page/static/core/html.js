/**
 * What all modules draw with: preact, its hooks and htm's tagged templates, from one place.
 */
import { Component, Fragment, h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

import * as hooks from "../vendor/preact-hooks.js";

export { Component, Fragment, render };

/** @type {<T>(initial: T | (() => T)) => [T, (next: T | ((old: T) => T)) => void]} */
export const useState = hooks.useState;
/** @type {(effect: () => void | (() => void), on?: any[]) => void} */
export const useEffect = hooks.useEffect;
/** @type {(effect: () => void | (() => void), on?: any[]) => void} */
export const useLayoutEffect = hooks.useLayoutEffect;
/** @type {<T>(initial: T) => {current: T}} */
export const useRef = hooks.useRef;
/** @type {<T>(make: () => T, on: any[]) => T} */
export const useMemo = hooks.useMemo;
/** @type {<T extends Function>(call: T, on: any[]) => T} */
export const useCallback = hooks.useCallback;
/** Draws the component again when it is called. @returns {() => void} */
export function useRedraw() {
  const [, redraw] = hooks.useReducer((/** @type {number} */ n) => n + 1, 0);
  return redraw;
}

/** @type {(strings: TemplateStringsArray, ...values: any[]) => any} */
export const html = htm.bind(h);

/**
 * @param {any} one
 * @param {any} other
 */
function differ(one, other) {
  const names = Object.keys(one);
  return (
    names.length !== Object.keys(other).length ||
    names.some((name) => !Object.is(one[name], other[name]))
  );
}

/**
 * A component that is drawn again only when a property of it has changed.
 * @template {(props: any) => any} F
 * @param {F} draw
 * @returns {any}
 */
export function memo(draw) {
  return class extends (/** @type {any} */ (Component)) {
    /** @param {any} next */
    shouldComponentUpdate(next) {
      return differ(this.props, next);
    }

    /** @param {any} props */
    render(props) {
      return h(draw, props);
    }
  };
}
