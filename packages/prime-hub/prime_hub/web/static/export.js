// The rollouts of a file that "prime eval export" wrote: a table to sort and filter, and conversations. All that strangers
// said is put in as text, never as markup.
"use strict";

const PER_PAGE = 50;
const rows = JSON.parse(document.getElementById("rows").textContent);
const threshold = Number(document.getElementById("rows").dataset.threshold);
const wanted = { outcome: "", error: "", words: "", sort: "place", descending: false, page: 0 };
const tests = {
  passed: (row) => row.reward !== null && row.reward >= threshold,
  failed: (row) => row.reward !== null && row.reward < threshold,
  error: (row) => row.error !== null,
  unscored: (row) => row.reward === null,
  truncated: (row) => row.truncated,
};
const HEADS = [
  ["place", "Example"], ["reward", "Reward"], ["turns", "Turns"], ["tokens", "Tokens"], ["seconds", "Time"], ["cost", "Cost"],
].filter(([name]) => name === "place" || name === "reward" || rows.some((row) => row[name] !== null));

function made(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

function told(value, name) {
  if (value === null || value === undefined) return "–";
  if (name === "seconds") return value.toFixed(1) + " s";
  if (name === "cost") return "$" + value.toFixed(4);
  return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(3)));
}

function chosen() {
  const words = wanted.words.toLowerCase();
  const found = rows.filter((row) =>
    (!wanted.outcome || tests[wanted.outcome](row))
    && (!wanted.error || row.error === wanted.error)
    && (!words || [row.example, row.asked, row.said].some((text) => text.toLowerCase().includes(words))));
  const sign = wanted.descending ? -1 : 1;
  const key = wanted.sort;
  return found.sort((one, other) => {
    if (one[key] === null || other[key] === null) return (one[key] === null) - (other[key] === null);
    return sign * (one[key] - other[key]) || one.place - other.place;
  });
}

function head([name, word]) {
  const cell = made("th");
  cell.scope = "col";
  const button = made("button", word, "link");
  button.type = "button";
  if (wanted.sort === name) {
    cell.setAttribute("aria-sort", wanted.descending ? "descending" : "ascending");
    const arrow = made("span", wanted.descending ? " ↓" : " ↑");
    arrow.setAttribute("aria-hidden", "true");
    button.append(arrow);
  }
  button.addEventListener("click", () => {
    const first = !["place", "reward"].includes(name);
    wanted.descending = wanted.sort === name ? !wanted.descending : first;
    wanted.sort = name;
    wanted.page = 0;
    draw();
    document.querySelectorAll("#table thead button")[HEADS.findIndex((one) => one[0] === name)].focus();
  });
  cell.append(button);
  return cell;
}

function line(row) {
  const element = made("tr");
  const name = made("th");
  name.scope = "row";
  const words = row.example + " · " + row.index;
  if (document.getElementById("r" + row.place)) {
    const link = made("a", words);
    link.href = "#r" + row.place;
    name.append(link);
  } else name.textContent = words;
  element.append(name);
  for (const [key, word] of HEADS.slice(1)) {
    const cell = made("td", told(row[key], key), "tight");
    cell.dataset.label = word;
    if (key === "reward" && row.error) cell.append(made("br"), made("span", row.error, "badge wrong"));
    element.append(cell);
  }
  const said = made("td", undefined, "wordy");
  said.append(made("span", row.asked, "quiet"), made("br"), row.said);
  element.append(said);
  return element;
}

function draw() {
  const found = chosen();
  const last = Math.max(1, Math.ceil(found.length / PER_PAGE));
  wanted.page = Math.min(wanted.page, last - 1);
  const table = made("table", undefined, "table rollouts");
  const page = last > 1 ? `, page ${wanted.page + 1} of ${last}` : "";
  const caption = made("caption", `${found.length.toLocaleString("en")} rollout${found.length === 1 ? "" : "s"}${page}`
    + (wanted.error ? `, error ${wanted.error}` : ""), "quiet small");
  document.getElementById("told").textContent = caption.textContent;
  const heads = made("tr");
  const wordy = made("th", "Asked, and last said");
  wordy.scope = "col";
  heads.append(...HEADS.map(head), wordy);
  const top = made("thead");
  top.append(heads);
  const body = made("tbody");
  body.append(...found.slice(wanted.page * PER_PAGE, (wanted.page + 1) * PER_PAGE).map(line));
  table.append(caption, top, body);
  const pages = made("nav", undefined, "pages");
  pages.setAttribute("aria-label", "Pages");
  for (const [word, step, there] of [["← Before", -1, wanted.page > 0], ["After →", 1, wanted.page < last - 1]]) {
    const button = made("button", word, "second");
    button.type = "button";
    button.disabled = !there;
    button.addEventListener("click", () => { wanted.page += step; draw(); });
    pages.append(button);
  }
  document.getElementById("table").replaceChildren(table, ...(last > 1 ? [pages] : []));
  for (const link of document.querySelectorAll("#choices a")) {
    const mine = new URLSearchParams(link.getAttribute("href").split("#")[0]).get("outcome") || "";
    if (mine === wanted.outcome && !wanted.error) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function piece(text) {
  if (text.length <= 3000) return [made("pre", text, "said")];
  const more = made("details", undefined, "more-said");
  more.append(made("summary", `Show all: ${(text.length - 3000).toLocaleString("en")} more characters`));
  more.append(made("pre", text.slice(3000), "said"));
  return [made("pre", text.slice(0, 3000), "said"), more];
}

function facts(pairs) {
  const list = made("dl", undefined, "fields");
  for (const [name, value] of pairs) {
    const pair = made("div");
    pair.append(made("dt", name), made("dd", value));
    list.append(pair);
  }
  return list;
}

function message(one) {
  const item = made("li", undefined, "message-" + one.kind);
  const role = made("p", undefined, "role");
  role.append(made("strong", one.role));
  if (one.about) role.append(" ", made("code", one.about));
  if (one.turn) role.append(" ", made("span", "turn " + one.turn, "quiet small"));
  if (one.reward !== null) role.append(" ", made("span", "reward " + told(one.reward), "badge"));
  item.append(role);
  if (one.thinking) {
    const thoughts = made("details", undefined, "thinking");
    thoughts.append(made("summary", "Its thoughts"), ...piece(one.thinking));
    item.append(thoughts);
  }
  for (const text of one.texts) item.append(...piece(text));
  for (const [name, given] of one.calls) {
    const call = made("div", undefined, "call");
    const calls = made("p", "calls ", "role");
    calls.append(made("code", name || "a tool without a name"));
    call.append(calls, ...(given ? piece(given) : []));
    item.append(call);
  }
  return item;
}

function show() {
  const block = /^#r\d+$/.test(location.hash) ? document.getElementById(location.hash.slice(1)) : null;
  const section = document.getElementById("shown");
  section.hidden = block === null;
  if (block === null) return;
  const one = JSON.parse(block.textContent);
  const row = rows.find((other) => "#r" + other.place === location.hash);
  document.getElementById("conversation").textContent = `Example ${row.example}, rollout ${row.index}`;
  const list = made("ol", undefined, "conversation");
  list.append(...one.messages.map(message));
  const parts = [facts([["Reward", told(row.reward)], ...one.facts])];
  if (one.error) {
    const failure = made("div", undefined, "failure");
    failure.append(made("h3", "It ended with an error"), ...piece(one.error));
    parts.push(failure);
  }
  parts.push(list);
  if (one.left) parts.push(made("p", one.left, "quiet small"));
  if (one.answer) parts.push(made("h3", "Answer"), ...piece(one.answer));
  document.getElementById("talk").replaceChildren(...parts);
  section.focus();
  section.scrollIntoView();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='?']");
  if (!link) return;
  event.preventDefault();
  const asked = new URLSearchParams(link.getAttribute("href").split("#")[0]);
  wanted.outcome = asked.get("outcome") in tests ? asked.get("outcome") : "";
  wanted.error = asked.get("error") || "";
  wanted.page = 0;
  draw();
  document.getElementById("rollouts").scrollIntoView();
});
document.getElementById("words").addEventListener("input", (event) => {
  wanted.words = event.target.value;
  wanted.page = 0;
  draw();
});
document.getElementById("choices").hidden = document.getElementById("looking").hidden = false;
window.addEventListener("hashchange", show);
draw();
show();
