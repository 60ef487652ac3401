// The conversation: sends it, shows the answer as it comes, and what it took and cost.
"use strict";

(() => {
  const form = document.getElementById("ask");
  if (!form) return;
  const chat = document.getElementById("chat");
  const question = document.getElementById("question");
  const send = document.getElementById("send");
  const tokensMax = document.getElementById("f-max_tokens");
  const shown = Object.fromEntries([...document.querySelectorAll("[data-m]")].map((one) => [one.dataset.m, one]));
  const HISTORY_MAX = 20;
  let history = [];
  let running = null;

  function turn(kind, text) {
    document.getElementById("chat-empty")?.remove();
    const element = document.createElement("div");
    element.className = `turn ${kind}`;
    element.textContent = text;
    chat.append(element);
    chat.scrollTop = chat.scrollHeight;
    return element;
  }

  function span(seconds) {
    return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
  }

  function euro(microeur) {
    if (microeur === null) return "no price";
    return microeur === 0 ? "less than 0.000001 EUR" : `${(microeur / 1e6).toFixed(6)} EUR`;
  }

  function measured(done) {
    shown.first.textContent = done.first_token_seconds === null ? "none came" : span(done.first_token_seconds);
    shown.speed.textContent = done.tokens_per_second === null ? "-" : `${done.tokens_per_second} tokens/s`;
    shown.tokens.textContent = `${done.prompt_tokens} in, ${done.completion_tokens} out`;
    shown.cost.textContent = euro(done.microeur);
  }

  async function* events(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
    }
  }

  async function answerTo(text) {
    history.push({ role: "user", content: text });
    history = history.slice(-HISTORY_MAX);
    const element = turn("waiting", "");
    let said = "";
    running = new AbortController();
    const body = new URLSearchParams({
      service: form.dataset.service,
      csrf: form.dataset.csrf,
      max_tokens: tokensMax.value,
      messages: JSON.stringify(history),
    });
    try {
      const answer = await fetch(form.action, { method: "POST", body, signal: running.signal, headers: { "HX-Request": "true" } });
      if (answer.status === 401) return window.location.reload();
      if (!answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        throw new Error(page.body.textContent.trim());
      }
      for await (const event of events(answer.body)) {
        if (event.error) throw new Error(event.error);
        if (event.text) {
          said += event.text;
          element.textContent = said;
          chat.scrollTop = chat.scrollHeight;
        }
        if (event.done) {
          measured(event.done);
          const foot = document.createElement("footer");
          foot.textContent = `${event.done.completion_tokens} tokens, ${euro(event.done.microeur)}`;
          element.append(foot);
        }
      }
      history.push({ role: "assistant", content: said });
    } catch (error) {
      if (error.name !== "AbortError") turn("wrong", error.message);
      history.pop();
      if (!said) element.remove();
    } finally {
      element.classList.remove("waiting");
      running = null;
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return running.abort();
    const text = question.value.trim();
    if (!text) return;
    question.value = "";
    turn("mine", text);
    send.textContent = "Stop";
    await answerTo(text);
    send.textContent = "Send";
    question.focus();
  });
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  document.getElementById("again").addEventListener("click", () => {
    running?.abort();
    history = [];
    chat.replaceChildren();
    question.focus();
  });
})();
