// The small part of Markdown that models write, read into plain data. Nothing here makes markup.

const FENCE = /^( *)(`{3,}|~{3,}) *([^`]*)$/;
const HEADING = /^(#{1,6}) +(.+?)(?: +#+)?$/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)]) +(.*)$/;
const QUOTE = /^ {0,3}> ?/;
const TABLE_RULE = /^ *\|?(?: *:?-+:? *\|)+ *(?::?-+:?)? *$/;
const MAX_DEPTH = 6;
const MAX_INLINE = 20_000;

/**
 * Reads `source` into blocks, in order. Each has `kind` and `source` (its own lines):
 * paragraph `{text}`, heading `{level, text}`, code `{language, text}`, rule `{}`,
 * quote `{blocks}`, table `{head, rows}`, list `{ordered, start, items: [{text, children: [list]}]}`.
 */
export function parseBlocks(source, depth = 0) {
  const lines = source.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const [block, next] = readBlock(lines, at, depth);
    blocks.push({ ...block, source: lines.slice(at, next).join("\n") });
    at = next;
  }
  return blocks;
}

function readBlock(lines, at, depth) {
  const line = lines[at];
  let match;
  if ((match = FENCE.exec(line))) return readFence(lines, at, match);
  if ((match = HEADING.exec(line))) {
    return [{ kind: "heading", level: match[1].length, text: match[2] }, at + 1];
  }
  if (RULE.test(line)) return [{ kind: "rule" }, at + 1];
  if (QUOTE.test(line) && depth < MAX_DEPTH) return readQuote(lines, at, depth);
  if (ITEM.test(line)) return readList(lines, at);
  if (startsTable(lines, at)) return readTable(lines, at);
  return readParagraph(lines, at, depth);
}

/** A fence without its end runs to the last line, as it does while an answer is streaming. */
function readFence(lines, at, [, indent, fence, language]) {
  const body = [];
  let next = at + 1;
  for (; next < lines.length; next += 1) {
    const line = lines[next].trim();
    if (line.length >= fence.length && line === fence[0].repeat(line.length)) break;
    body.push(lines[next].startsWith(indent) ? lines[next].slice(indent.length) : lines[next].trimStart());
  }
  return [{ kind: "code", language: language.trim().split(" ")[0], text: body.join("\n") }, next + 1];
}

function readQuote(lines, at, depth) {
  let next = at;
  const inner = [];
  while (next < lines.length && QUOTE.test(lines[next])) {
    inner.push(lines[next].replace(QUOTE, ""));
    next += 1;
  }
  return [{ kind: "quote", blocks: parseBlocks(inner.join("\n"), depth + 1) }, next];
}

function readList(lines, at) {
  const root = [];
  const open = []; // lists from the outermost to the innermost, with their indents
  let next = at;
  for (; next < lines.length; next += 1) {
    const match = RULE.test(lines[next]) ? null : ITEM.exec(lines[next]);
    if (match) {
      addItem(root, open, match);
    } else if (lines[next].trim() === "") {
      if (!continues(lines[next + 1])) break;
    } else if (/^ {2,}/.test(lines[next]) && !FENCE.test(lines[next])) {
      open.at(-1).list.items.at(-1).text += `\n${lines[next].trim()}`;
    } else {
      break;
    }
  }
  return [root[0], next];
}

function continues(line) {
  return line !== undefined && (ITEM.test(line) || (/^ {2,}\S/.test(line) && !FENCE.test(line)));
}

function addItem(root, open, [, spaces, marker, text]) {
  const indent = spaces.length;
  while (open.length > 1 && indent < open.at(-1).indent) open.pop();
  const deeper = open.length === 0 || (indent >= open.at(-1).indent + 2 && open.length < MAX_DEPTH);
  if (deeper) {
    const ordered = /\d/.test(marker);
    const list = { kind: "list", ordered, start: ordered ? parseInt(marker, 10) : 1, items: [] };
    (open.at(-1)?.list.items.at(-1).children ?? root).push(list);
    open.push({ indent, list });
  }
  open.at(-1).list.items.push({ text, children: [] });
}

function startsTable(lines, at) {
  return lines[at].includes("|") && at + 1 < lines.length && TABLE_RULE.test(lines[at + 1]);
}

function readTable(lines, at) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const rows = [];
  let next = at + 2;
  while (next < lines.length && lines[next].includes("|")) rows.push(cells(lines[next++]));
  return [{ kind: "table", head: cells(lines[at]), rows }, next];
}

function readParagraph(lines, at, depth) {
  const startsBlock = (line, index) =>
    FENCE.test(line) || HEADING.test(line) || RULE.test(line) || ITEM.test(line) ||
    (QUOTE.test(line) && depth < MAX_DEPTH) || startsTable(lines, index);
  let next = at + 1;
  while (next < lines.length && lines[next].trim() !== "" && !startsBlock(lines[next], next)) next += 1;
  return [{ kind: "paragraph", text: lines.slice(at, next).join("\n").trim() }, next];
}

const INLINE = new RegExp(
  [
    /\\([\\`*_{}[\]()#+\-.!|>~])/, // 1: escaped punctuation
    /(?<!`)(`+)(?!`)(.+?)(?<!`)\2(?!`)/s, // 2, 3: code
    /\*\*(?=\S)(.+?)(?<=\S)\*\*/s, // 4: bold
    /\*(?=[^\s*])(.+?)(?<=[^\s*])\*(?!\*)/s, // 5: italic
    /(?<![\p{L}\p{N}_])_(?=[^\s_])(.+?)(?<=[^\s_])_(?![\p{L}\p{N}_])/su, // 6: italic
  ].map((part) => part.source).join("|"),
  "gsu",
);

/** A text still being written, without a mark just begun and with open bold or code closed. */
export function closeOpen(text) {
  const begun = text.replace(/(?<![\w*`])(\*{1,2}|`)$/, "");
  const outsideCode = begun.replace(/`[^`]*`/g, "");
  if (outsideCode.includes("`")) return `${begun}\``;
  if (outsideCode.split("**").length % 2 === 0) return `${begun.replace(/[\s*]+$/, "")}**`;
  return begun;
}

/** Reads a line of text into pieces: `{kind: "text" | "code", text}` or `{kind: "bold" | "italic", pieces}`. */
export function parseInline(text, depth = 0) {
  if (depth > MAX_DEPTH || text.length > MAX_INLINE) return [{ kind: "text", text }];
  const pieces = [];
  let plain = "";
  let from = 0;
  const flush = () => {
    if (plain) pieces.push({ kind: "text", text: plain });
    plain = "";
  };
  for (const match of text.matchAll(INLINE)) {
    const [whole, escaped, , code, bold, italic, underscored] = match;
    plain += text.slice(from, match.index) + (escaped ?? "");
    from = match.index + whole.length;
    if (escaped !== undefined) continue;
    flush();
    if (code !== undefined) pieces.push({ kind: "code", text: code.replace(/^ (.*\S.*) $/s, "$1") });
    else if (bold !== undefined) pieces.push({ kind: "bold", pieces: parseInline(bold, depth + 1) });
    else pieces.push({ kind: "italic", pieces: parseInline(italic ?? underscored, depth + 1) });
  }
  plain += text.slice(from);
  flush();
  return pieces;
}
