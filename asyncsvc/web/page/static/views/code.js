/**
 * A block of code with its language, a copy button, and colours once it has ended.
 */
import { t } from "../core/text.js";

const COLOURED_MOST = 60000;
const NODE_MOST = 20000;
/** @type {Record<string, string>} */
const SIGNS = { amp: "&", lt: "<", gt: ">", quot: '"', "#x27": "'" };
/** Names that people write, and the grammar that reads them. @type {Record<string, string>} */
const GRAMMARS = {
  bash: "bash", sh: "bash", shell: "bash", zsh: "bash", console: "bash", diff: "diff", patch: "diff",
  javascript: "javascript", js: "javascript", jsx: "javascript", mjs: "javascript", typescript: "javascript",
  ts: "javascript", tsx: "javascript", json: "json", jsonc: "json", python: "python", py: "python",
  go: "go", golang: "go", rust: "rust", rs: "rust", yaml: "yaml", yml: "yaml", ini: "ini", toml: "ini",
  html: "xml", xml: "xml", svg: "xml",
};

/** @param {string} grammar @returns {Promise<any>} */
async function highlighter(grammar) {
  const [{ default: core }, { default: language }] = await Promise.all([
    import("../vendor/highlight.js"),
    import(`../vendor/languages/${grammar}.js`),
  ]);
  if (!core.getLanguage(grammar)) {
    core.registerLanguage(grammar, language);
  }
  return core;
}

/**
 * The spans of highlight.js, made one by one: its HTML is read, never parsed by the browser.
 * @param {string} value
 */
function spans(value) {
  const fragment = document.createDocumentFragment();
  /** @type {(DocumentFragment | HTMLElement)[]} */
  const open = [fragment];
  for (const part of value.split(/(<span class="[^"]*">|<\/span>)/)) {
    const named = /^<span class="([^"]*)">$/.exec(part);
    if (named) {
      const span = document.createElement("span");
      span.className = named[1];
      open[open.length - 1].append(span);
      open.push(span);
    } else if (part === "</span>") {
      open.pop();
    } else {
      open[open.length - 1].append(part.replace(/&(amp|lt|gt|quot|#x27);/g, (_, name) => SIGNS[name]));
    }
  }
  return fragment;
}

/** @param {HTMLElement} code @param {string} lang */
async function colour(code, lang) {
  const grammar = GRAMMARS[lang];
  const text = code.textContent ?? "";
  if (!grammar || text.length > COLOURED_MOST) {
    return;
  }
  try {
    const core = await highlighter(grammar);
    const { value } = core.highlight(text, { language: grammar, ignoreIllegals: true });
    code.replaceChildren(spans(value));
  } catch {
    // Without colours it reads as well.
  }
}

/** @param {() => string} text */
function copyButton(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn plain";
  button.textContent = t("core.copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = t("core.copied");
    } catch {
      button.textContent = t("core.not_copied");
    }
    setTimeout(() => (button.textContent = t("core.copy")), 2000);
  });
  return button;
}

/** Few large text nodes, as each costs. @param {HTMLElement} code @param {string} more */
export function appendText(code, more) {
  const { lastChild } = code;
  if (lastChild instanceof Text && lastChild.length < NODE_MOST) {
    lastChild.appendData(more);
  } else {
    code.append(more);
  }
}

/**
 * @param {string} text
 * @param {string} info  the words after the fence
 * @returns {{box: HTMLElement, append: (text: string) => void, close: () => void}}
 */
export function codeBlock(text, info) {
  const lang = info.split(/[\s,{]/, 1)[0].toLowerCase().slice(0, 24);
  const box = document.createElement("section");
  box.className = "block code";
  const header = document.createElement("header");
  const name = document.createElement("span");
  name.className = "mono";
  name.textContent = lang || t("task.code");
  const end = document.createElement("span");
  end.className = "end";
  const lines = document.createElement("span");
  const code = document.createElement("code");
  end.append(lines, copyButton(() => code.textContent ?? ""));
  header.append(name, end);
  const pre = document.createElement("pre");
  pre.tabIndex = 0;
  pre.append(code);
  box.append(header, pre);
  const close = () => {
    lines.textContent = t("task.lines", { count: (code.textContent?.replace(/\n$/, "").split("\n") ?? []).length });
    void colour(code, lang);
  };
  const block = { box, append: (/** @type {string} */ more) => appendText(code, more), close };
  if (text) {
    block.append(text);
    close();
  }
  return block;
}
