/**
 * A unified diff as a table: old and new line numbers, signs, and what is long only when asked for.
 */
import { visible } from "../core/format.js";
import { html, useMemo, useState } from "../core/html.js";
import { t } from "../core/text.js";

const SHOWN = 400;
const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@/;

/** @typedef {{kind: string, old: number | string, fresh: number | string, sign: string, text: string}} Line */

/** @param {string} diff @returns {{lines: Line[], added: number, removed: number}} */
export function parseDiff(diff) {
  /** @type {Line[]} */
  const lines = [];
  let [old, fresh, added, removed] = [0, 0, 0, 0];
  let inside = false;
  for (const text of diff.replace(/\n$/, "").split("\n")) {
    const hunk = HUNK.exec(text);
    if (hunk) {
      [old, fresh, inside] = [Number(hunk[1]), Number(hunk[2]), true];
      lines.push({ kind: "hunk", old: "", fresh: "", sign: "", text });
    } else if (!inside || text.startsWith("\\")) {
      inside = inside && !/^(---|\+\+\+|diff )/.test(text);
    } else if (text.startsWith("+")) {
      added += 1;
      lines.push({ kind: "add", old: "", fresh: fresh++, sign: "+", text: text.slice(1) });
    } else if (text.startsWith("-")) {
      removed += 1;
      lines.push({ kind: "del", old: old++, fresh: "", sign: "−", text: text.slice(1) });
    } else {
      lines.push({ kind: "", old: old++, fresh: fresh++, sign: "", text: text.slice(1) });
    }
  }
  return { lines, added, removed };
}

/** @param {{diff: string}} props */
export function Diff({ diff }) {
  const { lines } = useMemo(() => parseDiff(diff), [diff]);
  const [all, setAll] = useState(lines.length <= SHOWN);
  const shown = all ? lines : lines.slice(0, SHOWN);
  return html`<div class="diff" tabindex="0" role="region" aria-label=${t("task.diff")}>
    <table><tbody>${shown.map(
      (line) => html`<tr class=${line.kind}><td>${line.old}</td><td>${line.fresh}</td><td>${line.sign}</td><td>${visible(line.text)}</td></tr>`,
    )}</tbody></table>
    ${!all && html`<button type="button" class="fold" onClick=${() => setAll(true)}>${t("task.show_lines", { count: lines.length })}</button>`}
  </div>`;
}
