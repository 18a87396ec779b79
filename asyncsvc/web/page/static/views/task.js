import { html } from "../core/html.js";
/** @param {any} props */
export function TaskView({ route }) {
  return html`<article class="task">${route.id}</article>`;
}
