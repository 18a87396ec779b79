/**
 * The list of tasks, and the task that is open beside it.
 */
import { html } from "../core/html.js";

/** @param {{route: import("../core/types.js").Route}} props */
export default function View({ route }) {
  return html`<h1 class="vh">Tasks ${route.id}</h1>`;
}
