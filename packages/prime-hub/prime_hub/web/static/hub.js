// A button beside every command and API key that copies it. Without this script the text is there all the same.
"use strict";

const said = document.createElement("p");
said.setAttribute("role", "status");
said.className = "hidden";
document.body.append(said);

// Where a Hub is reached without https from another machine, browsers have no clipboard for pages; the older way works.
function copiedTheOlderWay(code) {
  const selection = window.getSelection();
  const range = document.createRange();
  range.selectNodeContents(code);
  selection.removeAllRanges();
  selection.addRange(range);
  return document.execCommand("copy");
}

async function copied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    return copiedTheOlderWay(code);
  }
}

for (const block of document.querySelectorAll("pre.command, pre.copied")) {
  const code = block.querySelector("code");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  const line = code.textContent.trim().split("\n", 1)[0];
  button.setAttribute("aria-label", "Copy: " + (line.length > 60 ? line.slice(0, 60) + "…" : line));
  button.addEventListener("click", async () => {
    const done = await copied(code);
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    said.textContent = "";
    said.textContent = done ? "Copied" : "Selected; press Ctrl+C to copy";
    setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 4000);
  });
  const around = document.createElement("div");
  around.className = "copying";
  block.replaceWith(around);
  around.append(block, button);
}
