// An answer's Markdown as page elements, made of nodes and text only.

import { copyButton } from "./clipboard.js";
import { element, words } from "./dom.js";
import { closeOpen, parseBlocks, parseInline } from "./markdown.js";

/** Shows a growing answer in `container`; blocks that have not changed keep their elements. */
export class AnswerView {
  #sources = [];

  constructor(container) {
    this.container = container;
  }

  /** `growing` hides Markdown's marks from the last words until they are complete. */
  update(answer, growing) {
    const blocks = parseBlocks(answer);
    if (growing && blocks.length) {
      closeMarks(blocks.at(-1));
      blocks.at(-1).source += " (growing)"; // so that it is drawn anew when it is complete
    }
    const { children } = this.container;
    while (children.length > blocks.length) this.container.lastChild.remove();
    blocks.forEach((block, index) => {
      if (index >= children.length) this.container.append(blockElement(block));
      else if (this.#sources[index] !== block.source) children[index].replaceWith(blockElement(block));
    });
    this.#sources = blocks.map((block) => block.source);
  }
}

/** Takes a block, or an item of a list. */
function closeMarks(part) {
  if (part.kind === "list") closeMarks(part.items.at(-1));
  else if (part.children?.length) closeMarks(part.children.at(-1));
  else if (part.text && part.kind !== "code") part.text = closeOpen(part.text);
}

function blockElement(block) {
  switch (block.kind) {
    case "code":
      return codeElement(block);
    case "heading":
      // Below the message's own level 2, and all alike: models skip levels, an outline must not.
      return element("h3", { class: `size-${block.level}` }, ...inline(block.text));
    case "list":
      return listElement(block);
    case "quote":
      return element("blockquote", {}, ...block.blocks.map(blockElement));
    case "rule":
      return element("hr");
    case "table":
      return tableElement(block);
    default:
      return element("p", {}, ...inline(block.text));
  }
}

function codeElement({ language, text }) {
  const title = language ? element("span", {}, language) : words("span", "code");
  const head = element("div", { class: "code-head" }, title, copyButton("copyCode", () => text));
  const body = element("pre", { tabindex: "0", translate: "no" }, element("code", {}, text));
  return element("div", { class: "code" }, head, body);
}

function listElement({ ordered, start, items }) {
  const list = element(ordered ? "ol" : "ul");
  if (ordered && start !== 1) list.start = start;
  for (const item of items) {
    list.append(element("li", {}, ...inline(item.text), ...item.children.map(listElement)));
  }
  return list;
}

function tableElement({ head, rows }) {
  const row = (tag, cells) => element("tr", {}, ...cells.map((cell) => element(tag, {}, ...inline(cell))));
  const body = rows.map((cells) => row("td", cells));
  const table = element("table", {}, element("thead", {}, row("th", head)), element("tbody", {}, ...body));
  return element("div", { class: "table", tabindex: "0" }, table);
}

function inline(text) {
  return parseInline(text).map(inlineNode);
}

function inlineNode(piece) {
  switch (piece.kind) {
    case "code":
      return element("code", { translate: "no" }, piece.text);
    case "bold":
      return element("strong", {}, ...piece.pieces.map(inlineNode));
    case "italic":
      return element("em", {}, ...piece.pieces.map(inlineNode));
    default:
      return document.createTextNode(piece.text);
  }
}
