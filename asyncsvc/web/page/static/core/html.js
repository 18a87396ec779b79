/**
 * What all modules draw with: preact, its hooks and htm's tagged templates, from one place.
 */
import { Component, Fragment, createContext, h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export {
  useCallback,
  useContext,
  useEffect,
  useLayoutEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
} from "../vendor/preact-hooks.js";
export { Component, Fragment, createContext, render };

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
  return class extends Component {
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
