// What every page has when scripts run: the reader's own time zone, live refresh, search with Ctrl-K, copying.
// Without scripts all pages still read, order and release; they are then as fresh as the last reload.
"use strict";

(() => {
  const base = "/console";
  const LIVE_EVERY_MS = 1500;
  const TICK_MS = 10000; // meters run without events
  const RETRY_MS = [1000, 2000, 4000, 8000, 15000];

  const dayFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const timeFormat = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

  function localTimes(root) {
    for (const element of root.querySelectorAll("time[datetime]:not([data-local])")) {
      const at = new Date(element.dateTime);
      const today = at.toDateString() === new Date().toDateString();
      element.title = `${element.dateTime.replace("T", " ").replace("Z", "")} UTC`;
      element.textContent = (today ? timeFormat : dayFormat).format(at);
      element.dataset.local = "";
    }
  }

  // --- live -----------------------------------------------------------------------------------------------
  const sign = document.getElementById("live-sign");
  let source = null;
  let failures = 0;
  let retryTimer = 0;
  let refreshTimer = 0;
  let lastRefresh = 0;

  function say(state, text) {
    if (!sign) return;
    sign.className = `live ${state}`;
    sign.textContent = text;
  }

  function fresh() {
    say("on", `Live, updated ${timeFormat.format(new Date())}`);
  }

  function refresh() {
    refreshTimer = 0;
    lastRefresh = Date.now();
    document.body.dispatchEvent(new CustomEvent("live"));
    for (const region of document.querySelectorAll("[data-live]")) reload(region);
    if (!document.querySelector("[data-live]")) fresh();
  }

  async function reload(region) {
    if (region.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return;
    const address = region.dataset.live || window.location.href;
    try {
      const answer = await fetch(address, { headers: { "X-Penstock-Live": "1" }, credentials: "same-origin" });
      if (answer.status === 401) return signedOut();
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = page.getElementById(region.id);
      if (!next) return;
      const open = new Set([...region.querySelectorAll("details[open][id]")].map((one) => one.id));
      for (const one of next.querySelectorAll("details[id]")) one.open = open.has(one.id) || one.open;
      localTimes(next);
      const focused = document.activeElement && region.contains(document.activeElement) ? document.activeElement.id : "";
      region.replaceChildren(...next.childNodes);
      if (focused) document.getElementById(focused)?.focus();
      if (window.htmx) window.htmx.process(region);
      fresh();
    } catch {
      say("lost", "Not updated: the factory does not answer");
    }
  }

  function changed() {
    if (refreshTimer) return;
    refreshTimer = window.setTimeout(refresh, Math.max(150, LIVE_EVERY_MS - (Date.now() - lastRefresh)));
  }

  function signedOut() {
    disconnect();
    say("lost", "Signed out");
    window.location.assign(`${base}/login?next=${encodeURIComponent(location.pathname.slice(base.length) + location.search)}`);
  }

  function connect() {
    if (!sign || source || document.hidden) return;
    source = new EventSource(`${base}/live`);
    source.addEventListener("hello", () => {
      const again = failures > 0 || lastRefresh > 0;
      failures = 0;
      if (again) changed();
      else fresh();
    });
    source.addEventListener("changed", changed);
    source.addEventListener("ended", signedOut);
    source.onerror = () => {
      disconnect();
      const wait = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
      failures += 1;
      say("lost", `Connection lost, trying again in ${Math.round(wait / 1000)} s`);
      retryTimer = window.setTimeout(connect, wait);
    };
  }

  function disconnect() {
    window.clearTimeout(retryTimer);
    if (source) source.close();
    source = null;
  }

  document.addEventListener("changed-here", changed);
  document.addEventListener("visibilitychange", () => {
    // A browser keeps few connections to one host: a page that nobody looks at holds none.
    if (document.hidden) disconnect();
    else connect();
  });
  window.addEventListener("pagehide", disconnect);
  window.setInterval(() => { if (source && !document.hidden) changed(); }, TICK_MS);

  // --- search ---------------------------------------------------------------------------------------------
  const palette = document.getElementById("palette");
  if (palette) {
    const input = palette.querySelector("input");
    const open = () => {
      if (!palette.open) palette.showModal();
      input.select();
    };
    document.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        open();
      }
    });
    document.getElementById("find")?.addEventListener("click", (event) => {
      event.preventDefault();
      open();
    });
    palette.addEventListener("click", (event) => {
      if (event.target === palette) palette.close();
    });
    palette.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      const stops = [input, ...palette.querySelectorAll(".results a")];
      const at = stops.indexOf(document.activeElement);
      const next = stops[(at + (event.key === "ArrowDown" ? 1 : -1) + stops.length) % stops.length];
      event.preventDefault();
      next.focus();
    });
    input.form.addEventListener("submit", (event) => {
      // Results of what was typed before are not what is meant; then the page of the search answers.
      const first = palette.querySelector(".results a");
      const of = palette.querySelector(".results ul");
      if (first && of.dataset.q === input.value.trim()) {
        event.preventDefault();
        window.location.assign(first.href);
      }
    });
  }

  // --- small things ---------------------------------------------------------------------------------------
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select the text and copy it";
    }
  });
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method === "dialog") return;
    for (const button of event.target.querySelectorAll("button:not([type=button])")) {
      window.setTimeout(() => { button.disabled = true; }, 0);
    }
  });
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const button of document.querySelectorAll("button[disabled]")) button.disabled = false;
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("select[data-submit]")) event.target.form.requestSubmit();
  });
  document.body.addEventListener("htmx:afterSwap", (event) => localTimes(event.target));

  for (const element of document.querySelectorAll("[data-scripted]")) element.hidden = false;
  localTimes(document);
  connect();
})();
