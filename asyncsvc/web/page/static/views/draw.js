/**
 * Draws what a Markdown lexer has found, element by element.
 *
 * What comes from a model is hostile. No HTML is ever parsed here: each element is one of those
 * below, its text is set as text, HTML in the Markdown is shown as it was written, images become
 * links, and a link goes to http, https or mailto.
 */
import { codeBlock } from "./code.js";

const LINK = /^(https?:\/\/|mailto:)/i;
/** @type {Record<string, string>} */
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'", nbsp: "\u00a0" };
const ALIGNED = new Set(["left", "center", "right"]);

/** @param {string} text */
function plain(text) {
  return text.replace(/&(amp|lt|gt|quot|#39|nbsp);/g, (_, name) => ENTITIES[name]);
}

/**
 * @param {string} tag
 * @param {(Node | string)[]} inner
 * @param {Record<string, string>} [attributes]
 */
function element(tag, inner, attributes = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  made.append(...inner);
  return made;
}

/** @param {string} href @param {(Node | string)[]} inner @returns {Node} */
function link(href, inner) {
  if (!LINK.test(href)) {
    return element("span", inner);
  }
  return element("a", inner, { href, title: href, target: "_blank", rel: "noopener noreferrer" });
}

/** @param {any} token @returns {Node} */
function table({ header, rows, align }) {
  const cell = (/** @type {string} */ tag) => (/** @type {any} */ one, /** @type {number} */ at) =>
    element(tag, [draw(one.tokens)], ALIGNED.has(align[at]) ? { align: align[at] } : {});
  const head = element("thead", [element("tr", header.map(cell("th")))]);
  const body = element("tbody", rows.map((/** @type {any[]} */ row) => element("tr", row.map(cell("td")))));
  return element("div", [element("table", [head, body])], { class: "wide-table", tabindex: "0" });
}

/** @param {any} token @returns {Node} */
function list({ ordered, start, items }) {
  const entries = items.map((/** @type {any} */ item) => {
    const box = item.task ? [item.checked ? "☑ " : "☐ "] : [];
    return element("li", [...box, draw(item.tokens)]);
  });
  return ordered ? element("ol", entries, { start: String(Number(start) || 1) }) : element("ul", entries);
}

/** How each kind of token is drawn. @type {Record<string, (token: any) => Node | string>} */
const KINDS = {
  paragraph: ({ tokens }) => element("p", [draw(tokens)]),
  heading: ({ depth, tokens }) => element(`h${Math.min(Number(depth) + 2, 6)}`, [draw(tokens)]),
  code: ({ text, lang }) => codeBlock(text, lang ?? "").box,
  blockquote: ({ tokens }) => element("blockquote", [draw(tokens)]),
  list,
  table,
  hr: () => element("hr", []),
  text: ({ tokens, text }) => (tokens ? draw(tokens) : plain(text)),
  escape: ({ text }) => plain(text),
  strong: ({ tokens }) => element("strong", [draw(tokens)]),
  em: ({ tokens }) => element("em", [draw(tokens)]),
  del: ({ tokens }) => element("del", [draw(tokens)]),
  codespan: ({ text }) => element("code", [text]),
  br: () => element("br", []),
  link: ({ href, tokens }) => link(href, [draw(tokens)]),
  image: ({ href, text }) => link(href, [plain(text || href)]),
  tex: ({ text }) => element("span", [text], { class: "tex" }),
  checkbox: () => "",
  space: () => "",
  def: () => "",
};

/** @param {any[]} tokens @returns {DocumentFragment} */
export function draw(tokens) {
  const fragment = document.createDocumentFragment();
  for (const token of tokens) {
    const kind = Object.hasOwn(KINDS, token.type) ? KINDS[token.type] : null;
    fragment.append(kind ? kind(token) : token.raw);
  }
  return fragment;
}
