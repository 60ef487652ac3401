// A small terminal for serial consoles: lines, the cursor in the last line, no colours. Keys go as they are typed.
"use strict";

for (const panel of document.querySelectorAll(".terminal[data-to]")) {
  const LINES_MAX = 2000;
  const screen = panel.querySelector("pre");
  const state = panel.querySelector("[role=status]");
  const open = panel.querySelector("[data-open]");
  const close = panel.querySelector("[data-close]");
  const line = panel.querySelector("form");
  const keys = { Enter: "\r", Backspace: "\x7f", Escape: "\x1b", Tab: "\t", Delete: "\x1b[3~", Home: "\x1b[H", End: "\x1b[F",
    ArrowUp: "\x1b[A", ArrowDown: "\x1b[B", ArrowRight: "\x1b[C", ArrowLeft: "\x1b[D" };
  let socket = null;
  let decoder = new TextDecoder();
  let rows = [""];
  let column = 0;
  let rest = "";

  function say(text) {
    state.textContent = text;
  }

  function put(character) {
    const row = rows[rows.length - 1].padEnd(column);
    rows[rows.length - 1] = row.slice(0, column) + character + row.slice(column + 1);
    column += 1;
  }

  // Returns how much of `text` a sequence that begins at `at` takes, 0 if its end has not come yet (ECMA-48).
  function sequence(text, at) {
    if (at + 1 >= text.length) return 0;
    if (text[at + 1] === "]") {
      const end = text.slice(at).search(/\x07|\x1b\\/);
      return end < 0 ? (text.length - at > 512 ? 2 : 0) : end + 1;
    }
    if (text[at + 1] !== "[") return 2;
    const found = /^\x1b\[([0-9;?]*)[ -/]*([@-~])/.exec(text.slice(at, at + 64));
    if (!found) return text.length - at > 32 ? 2 : 0;
    const [whole, given, verb] = found;
    const last = rows.length - 1;
    const count = parseInt(given, 10) || 1;
    if (verb === "K") rows[last] = given === "2" ? "" : given === "1" ? " ".repeat(column) + rows[last].slice(column) : rows[last].slice(0, column);
    else if (verb === "D") column = Math.max(0, column - count);
    else if (verb === "C") column += Math.min(count, 512);
    else if (verb === "G") column = Math.min(count, 512) - 1;
    else if (verb === "P") rows[last] = rows[last].slice(0, column) + rows[last].slice(column + count);
    else if (verb === "J" && given === "2") { rows = [""]; column = 0; }
    return whole.length;
  }

  function show(text) {
    const all = rest + text;
    let at = 0;
    rest = "";
    while (at < all.length) {
      const one = all[at];
      if (one === "\x1b") {
        const length = sequence(all, at);
        if (!length) { rest = all.slice(at); break; }
        at += length;
        continue;
      }
      if (one === "\n") { rows.push(""); }
      else if (one === "\r") column = 0;
      else if (one === "\b") column = Math.max(0, column - 1);
      else if (one === "\t") do put(" "); while (column % 8);
      else if (one >= " ") put(one);
      at += 1;
    }
    if (rows.length > LINES_MAX) rows = rows.slice(-LINES_MAX);
    const atEnd = screen.scrollHeight - screen.scrollTop - screen.clientHeight < 40;
    screen.textContent = rows.join("\n");
    if (atEnd) screen.scrollTop = screen.scrollHeight;
  }

  function send(text) {
    if (!socket || socket.readyState !== WebSocket.OPEN) return;
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length; at += 2048) socket.send(bytes.slice(at, at + 2048));
  }

  function opened(is) {
    open.hidden = is;
    close.hidden = !is;
    line.hidden = !is;
  }

  open.addEventListener("click", () => {
    const address = new URL(panel.dataset.to, window.location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    decoder = new TextDecoder();
    let why = "";
    say("Connecting to the machine's host");
    opened(true);
    socket.addEventListener("message", (event) => {
      if (typeof event.data !== "string") return show(decoder.decode(event.data, { stream: true }));
      const told = JSON.parse(event.data);
      if (told.notice === "attached") {
        say("Connected: what you type in the terminal goes to the machine. Tab goes there, too; Shift+Tab leaves.");
        screen.focus();
      } else why = told.sentence;
    });
    socket.addEventListener("close", () => {
      say(`Not connected${why ? `: ${why}` : ""}`);
      socket = null;
      opened(false);
      open.focus();
    });
  });

  close.addEventListener("click", () => socket && socket.close());

  screen.addEventListener("keydown", (event) => {
    if (!socket || event.metaKey || event.altKey || (event.key === "Tab" && event.shiftKey)) return;
    let text = keys[event.key];
    if (event.ctrlKey) {
      if (event.key.length !== 1 || (event.key === "c" && String(window.getSelection()))) return;
      const code = event.key.toUpperCase().charCodeAt(0);
      if (code < 64 || code > 95) return;
      text = String.fromCharCode(code - 64);
    } else if (event.key.length === 1) text = event.key;
    if (text === undefined) return;
    event.preventDefault();
    send(text);
  });

  screen.addEventListener("paste", (event) => {
    event.preventDefault();
    send(event.clipboardData.getData("text").replace(/\r?\n/g, "\r"));
  });

  // For whoever would rather write a whole line, on a telephone or with a screen reader.
  line.addEventListener("submit", (event) => {
    event.preventDefault();
    const field = line.querySelector("input");
    send(`${field.value}\r`);
    field.value = "";
  });
  for (const button of line.querySelectorAll("[data-send]")) button.addEventListener("click", () => send(keys[button.dataset.send] || button.dataset.send));
}
