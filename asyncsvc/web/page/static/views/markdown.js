/**
 * Markdown that is drawn as it comes: a finished block once, the last one anew with each frame, and
 * an open block of code by appending to it.
 */
import { Marked } from "../vendor/marked.js";
import { visible } from "../core/format.js";
import { nextFrame } from "../core/store.js";
import { codeBlock } from "./code.js";
import { draw } from "./draw.js";

const PIECE = 40000;
/** A last block longer than this is cut where it can be, so that a frame stays short. */
const LONG = 8000;
const FENCE = /^ {0,3}(`{3,}|~{3,})([^\n]*)(?:\n|$)/;

/** TeX stays readable as it is: Markdown would eat its backslashes and stars. */
const tex = {
  name: "tex",
  level: "inline",
  start: (/** @type {string} */ text) => text.search(/\$|\\[([]/),
  tokenizer(/** @type {string} */ text) {
    const found = /^(\$\$[^$]+\$\$|\$(?!\s)[^$\n]+?(?<!\s)\$(?!\d)|\\\([^\n]+?\\\)|\\\[[\s\S]+?\\\])/.exec(text);
    return found ? { type: "tex", raw: found[0], text: found[0] } : undefined;
  },
};

const marked = new Marked({ gfm: true, async: false, extensions: [tex] });

/** @param {any} token @returns {Node} */
function drawn(token) {
  if (token.type === "code") {
    return codeBlock(token.text, token.lang ?? "").box;
  }
  const box = document.createElement("div");
  box.className = "md";
  box.dir = "auto";
  box.append(draw([token]));
  return box;
}

/** A text that grows, in an element. */
export class Markdown {
  /** @param {HTMLElement} box */
  constructor(box) {
    this.box = box;
    this.live = document.createElement("div");
    this.live.className = "live";
    box.append(this.live);
    this.queue = "";
    this.tail = "";
    this.done = false;
    this.due = false;
    /** The open block of code, where the text ends in one. @type {any} */
    this.fence = null;
  }

  /** Draws at once; call it once a frame at most. What is long takes further frames. @param {string} text */
  append(text) {
    this.queue += visible(text);
    this.now();
  }

  /** No more comes. */
  end() {
    this.done = true;
    this.now();
  }

  now() {
    if (!this.due) {
      this.step();
    }
  }

  soon() {
    if (!this.due) {
      this.due = true;
      nextFrame(() => {
        this.due = false;
        this.step();
      });
    }
  }

  step() {
    this.tail += this.queue.slice(0, PIECE);
    this.queue = this.queue.slice(PIECE);
    while (this.fence ? this.inFence() : this.blocks());
    if (this.queue) {
      this.soon();
    } else if (this.done) {
      this.finish();
    }
  }

  finish() {
    if (this.fence) {
      this.fence.append(this.tail);
      this.fence.close();
      this.fence = null;
    } else {
      this.commit(marked.lexer(this.tail));
    }
    this.tail = "";
    this.live.remove();
  }

  /** @param {any[]} tokens */
  commit(tokens) {
    for (const token of tokens) {
      if (token.type !== "space" && token.type !== "def") {
        this.live.before(drawn(token));
      }
      this.tail = this.tail.slice(token.raw.length);
    }
  }

  /** Draws the blocks of the tail. @returns {boolean} whether a block of code has begun */
  blocks() {
    const tokens = /** @type {any[]} */ (marked.lexer(this.tail));
    this.commit(tokens.slice(0, -1));
    const last = tokens[tokens.length - 1];
    if (!last) {
      this.live.replaceChildren();
      return false;
    }
    const opened = last.type === "code" && FENCE.exec(this.tail);
    if (opened) {
      this.tail = this.tail.slice(opened[0].length);
      this.fence = { marker: opened[1], fresh: true, ...codeBlock("", opened[2].trim()) };
      this.live.before(this.fence.box);
      this.live.replaceChildren();
      return true;
    }
    if (this.tail.length > LONG) {
      this.split(last);
      return false;
    }
    this.live.replaceChildren(drawn(last));
    return false;
  }

  /** The last block is long: what of it cannot change any more becomes a block of its own. @param {any} last */
  split(last) {
    const items = last.type === "list" ? last.items.slice(0, -1) : [];
    const raw = items.map((/** @type {any} */ item) => item.raw).join("");
    if (raw && this.tail.startsWith(raw)) {
      this.live.before(drawn({ ...last, raw, items }));
      this.tail = this.tail.slice(raw.length);
      return;
    }
    const head = last.type === "table" ? this.tail.split("\n", 2).join("\n") : "";
    const end = Math.max(this.tail.lastIndexOf("\n"), head ? 0 : this.tail.lastIndexOf(" "));
    const cut = end > head.length ? end + 1 : this.tail.length;
    for (const token of marked.lexer(this.tail.slice(0, cut))) {
      this.live.before(drawn(token));
    }
    this.tail = (head && `${head}\n`) + this.tail.slice(cut);
    this.live.replaceChildren();
  }

  /** Appends to the open block of code. @returns {boolean} whether it has ended */
  inFence() {
    const { marker, fresh } = this.fence;
    const start = fresh ? "(?:^|\\n)" : "\\n";
    const close = new RegExp(`${start} {0,3}\\${marker[0]}{${marker.length},}[ \\t]*(\\n|$)`).exec(this.tail);
    if (close && (close[1] || (this.done && !this.queue))) {
      this.fence.append(this.tail.slice(0, close.index));
      this.fence.close();
      this.fence = null;
      this.tail = this.tail.slice(close.index + close[0].length);
      return true;
    }
    // The last line may be the beginning of the end.
    const keep = this.tail.lastIndexOf("\n");
    const line = keep < 0 ? this.tail : this.tail.slice(keep + 1);
    const open = (keep >= 0 || fresh) && /^ {0,3}[`~]*[ \t]*$/.test(line);
    const sure = open ? Math.max(keep, 0) : this.tail.length;
    if (sure > 0) {
      this.fence.append(this.tail.slice(0, sure));
      this.fence.fresh = false;
      this.tail = this.tail.slice(sure);
    }
    return false;
  }
}
