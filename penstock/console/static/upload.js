// Files into a knowledge base, images, batches: one request a file, with its progress; what is refused is said beside it.
"use strict";

for (const drop of document.querySelectorAll(".drop[data-to]")) {
  const input = drop.querySelector("input[type=file]");
  const list = drop.parentElement.querySelector(".uploads");
  const waiting = [];
  let busy = false;

  function line(name) {
    const item = document.createElement("li");
    const label = document.createElement("span");
    const bar = document.createElement("progress");
    const said = document.createElement("span");
    label.textContent = name;
    bar.max = 100;
    bar.value = 0;
    bar.setAttribute("aria-label", `${name}: sent`);
    said.className = "muted";
    said.textContent = "waiting";
    item.append(label, bar, said);
    list.append(item);
    return { bar, said };
  }

  function next() {
    const one = waiting.shift();
    if (!one) {
      busy = false;
      return;
    }
    busy = true;
    const { file, bar, said } = one;
    const request = new XMLHttpRequest();
    request.open("POST", `${drop.dataset.to}${drop.dataset.to.includes("?") ? "&" : "?"}name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("X-CSRF-Token", drop.dataset.csrf);
    request.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      bar.value = (100 * event.loaded) / event.total;
      said.textContent = `${Math.round(bar.value)} %`;
    });
    request.addEventListener("loadend", () => {
      bar.value = request.status === 204 ? 100 : bar.value;
      said.className = request.status === 204 ? "muted" : "wrong";
      const why = (request.getResponseHeader("content-type") || "").startsWith("text/plain") ? request.responseText : "";
      said.textContent = request.status === 204 ? drop.dataset.said : why || "it was not taken; try again";
      document.dispatchEvent(new Event("changed-here"));
      next();
    });
    request.send(file);
  }

  function take(files) {
    for (const file of files) {
      const { bar, said } = line(file.name);
      if (file.size > Number(drop.dataset.max) * 1048576) {
        said.className = "wrong";
        said.textContent = `over ${drop.dataset.max} MiB; split it`;
        continue;
      }
      waiting.push({ file, bar, said });
    }
    if (!busy) next();
  }

  input.addEventListener("change", () => {
    take(input.files);
    input.value = "";
  });
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
}
