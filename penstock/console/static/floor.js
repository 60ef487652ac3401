// The floor: racks of nodes of devices on a canvas. Far away a rack is a stack of its states, nearer every device
// is a square, nearest nodes have names. Drag to move, wheel or buttons to zoom, click to open what is below.
"use strict";

(() => {
  const box = document.getElementById("floor");
  if (!box) return;
  const canvas = box.querySelector("canvas");
  const context = canvas.getContext("2d", { alpha: false });
  const tip = document.getElementById("floor-tip");
  const choice = document.getElementById("floor-colour");
  const legend = document.getElementById("floor-legend");
  const base = "/console";
  const CELL = 10; // of one device, in units of the drawing
  const NODE_GAP = 2;
  const RACK_GAP = 14;
  const SITE_GAP = 46;
  const LABEL = 16;
  let floor = null;
  let racks = []; // {x, y, w, h, name, site, nodes, counts}
  let sites = [];
  let size = { w: 1, h: 1 };
  let view = { x: 0, y: 0, k: 1 };
  let fitted = false;
  let colours = {};
  let drawing = 0;

  function readColours() {
    const probe = document.createElement("i");
    probe.hidden = true;
    document.body.append(probe);
    const of = (property, name) => {
      probe.className = name;
      return getComputedStyle(probe)[property];
    };
    colours = { state: [] };
    for (const state of floor.states) colours.state.push(of("backgroundColor", `s-${state}`));
    const style = getComputedStyle(document.body);
    probe.className = "muted";
    colours.muted = getComputedStyle(probe).color;
    colours.ink = style.color;
    colours.paper = getComputedStyle(box).backgroundColor;
    probe.className = "badge";
    colours.empty = getComputedStyle(probe).backgroundColor;
    probe.className = "badge bad";
    colours.bad = getComputedStyle(probe).color;
    probe.className = "badge busy";
    colours.warn = getComputedStyle(probe).color;
    probe.className = "badge good";
    colours.good = getComputedStyle(probe).color;
    probe.remove();
    colours.dark = matchMedia("(prefers-color-scheme: dark)").matches && document.documentElement.dataset.theme !== "light" || document.documentElement.dataset.theme === "dark";
    colours.tenant = floor.tenants.map((_, at) => at === 0 ? colours.empty : `hsl(${(at * 137.5 + 180) % 360} ${colours.dark ? "48% 58%" : "52% 42%"})`);
    colours.load = Array.from({ length: 10 }, (_, at) => `color-mix(in oklab, ${colours.state[0]} ${at * 10 + 10}%, ${colours.empty})`);
    colours.warmth = Array.from({ length: 10 }, (_, at) => `color-mix(in oklab, ${colours.bad} ${at * 11}%, ${colours.good})`);
  }

  function measure() {
    // Racks stand in rows, one site below the other.
    const built = floor.sites.map((site) => site.racks.map((rack) => {
      const columns = Math.max(1, ...rack.nodes.map((node) => node[4].length));
      return { name: rack.name, site, nodes: rack.nodes, columns, w: columns * CELL, h: rack.nodes.length * (CELL + NODE_GAP), counts: count(rack.nodes) };
    }));
    const area = built.flat().reduce((sum, rack) => sum + (rack.w + RACK_GAP) * (rack.h + RACK_GAP + LABEL), 0);
    const ratio = box.clientWidth / Math.max(1, box.clientHeight);
    // The width that lets everything be drawn largest: rows end where a rack no longer fits, so try some.
    let best = 0;
    let chosen = 0;
    for (let step = 0; step < 24; step += 1) {
      const hall = Math.sqrt(area * ratio) * (0.7 + step * 0.08);
      place(built, hall);
      const k = Math.min(box.clientWidth / size.w, box.clientHeight / size.h);
      if (k > best * 1.01) [best, chosen] = [k, hall];
    }
    place(built, chosen);
  }

  function place(built, hall) {
    racks = [];
    sites = [];
    let y = 0;
    let widest = 1;
    for (const drawn of built) {
      sites.push({ site: drawn[0].site, y });
      y += LABEL + 12;
      let x = 0;
      let row = 0;
      for (const rack of drawn) {
        if (x > 0 && x + rack.w > hall) {
          x = 0;
          y += row + RACK_GAP + LABEL;
          row = 0;
        }
        rack.x = x;
        rack.y = y + LABEL;
        x += rack.w + RACK_GAP;
        widest = Math.max(widest, x);
        row = Math.max(row, rack.h);
        racks.push(rack);
      }
      y += row + SITE_GAP + LABEL;
    }
    size = { w: widest, h: Math.max(1, y - SITE_GAP) };
  }

  function count(nodes) {
    const found = {};
    for (const node of nodes) for (const letter of node[4]) found[letter] = (found[letter] || 0) + 1;
    return found;
  }

  function fit() {
    const k = Math.min((box.clientWidth - 48) / size.w, (box.clientHeight - 40) / size.h, 2.4);
    view = { k, x: 24, y: 20 };
    view.x = Math.max(24, (box.clientWidth - size.w * k) / 2);
    draw();
  }

  function colourOf(node, at) {
    if (node[2] === 2) return colours.bad;
    switch (choice.value) {
      case "tenant": return colours.tenant[node[5].charCodeAt(at) - 0x100] || colours.empty;
      case "load": return node[8][at] === "-" ? colours.empty : colours.load[Number(node[8][at])];
      case "power": return node[9][at] === "-" ? colours.empty : colours.load[Number(node[9][at])];
      case "warmth": return node[10][at] === "-" ? colours.empty : colours.warmth[Number(node[10][at])];
      case "sold": return node[7][at] === "0" ? colours.empty : colours.load[Number(node[7][at])];
      case "health": return node[6][at] === "a" ? colours.good : node[6][at] === "b" ? colours.warn : colours.bad;
      default: return colours.state[node[4].charCodeAt(at) - 97];
    }
  }

  function draw() {
    if (drawing) return;
    drawing = requestAnimationFrame(() => {
      drawing = 0;
      paint();
    });
  }

  function paint() {
    const scale = window.devicePixelRatio || 1;
    const width = box.clientWidth;
    const height = box.clientHeight;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.fillStyle = colours.paper;
    context.fillRect(0, 0, width, height);
    if (!floor) return;
    const { x, y, k } = view;
    const cell = CELL * k;
    const gap = cell > 5 ? Math.max(1, k * 1.5) : cell > 2.5 ? 0.5 : 0;
    context.textBaseline = "alphabetic";
    for (const { site, y: top } of sites) {
      context.fillStyle = colours.ink;
      context.font = '600 14px "Plex", sans-serif';
      context.fillText(site.name + (site.simulated ? " (simulated)" : ""), Math.max(12, x), y + top * k + 14);
    }
    for (const rack of racks) {
      const left = x + rack.x * k;
      const upper = y + rack.y * k;
      if (left > width || upper > height || left + rack.w * k < 0 || upper + rack.h * k < 0) continue;
      if (cell < 1.6 && choice.value === "state") {
        stack(rack, left, upper, k);
        continue;
      }
      if (LABEL * k > 11) {
        context.fillStyle = colours.muted;
        context.font = `${Math.min(13, 9 * k)}px "Plex", sans-serif`;
        context.fillText(rack.name, left, upper - 4 * k, rack.w * k + RACK_GAP * k);
      }
      rack.nodes.forEach((node, row) => {
        const line = upper + row * (CELL + NODE_GAP) * k;
        if (line > height || line + cell < 0) return;
        if (!node[4].length) {
          context.strokeStyle = node[2] === 2 ? colours.bad : colours.muted;
          context.strokeRect(left + 0.5, line + 0.5, Math.max(2, cell - 1), Math.max(2, cell - 1));
        }
        let last = "";
        for (let at = 0; at < node[4].length; at += 1) {
          const fill = colourOf(node, at);
          if (fill !== last) context.fillStyle = last = fill;
          context.fillRect(left + at * cell, line, cell - gap, cell - gap);
        }
        if (node[3] && cell > 4) {
          context.strokeStyle = colours.warn;
          context.lineWidth = 1.5;
          context.strokeRect(left - 1, line - 1, Math.max(1, node[4].length) * cell + 1, cell + 1);
          context.lineWidth = 1;
        }
        if (cell > 24) {
          context.fillStyle = node[2] === 2 || node[4].length ? "#fff" : colours.ink;
          context.font = '11px "Plex", sans-serif';
          context.fillText(node[1], left + 4, line + 14, rack.w * k - 8);
        }
      });
    }
  }

  function stack(rack, left, upper, k) {
    const total = Object.values(rack.counts).reduce((sum, one) => sum + one, 0) || 1;
    let reached = 0;
    for (const [letter, number] of Object.entries(rack.counts)) {
      context.fillStyle = colours.state[letter.charCodeAt(0) - 97];
      const from = upper + (reached / total) * rack.h * k;
      reached += number;
      context.fillRect(left, from, rack.w * k, upper + (reached / total) * rack.h * k - from);
    }
  }

  function below(event) {
    const area = canvas.getBoundingClientRect();
    const x = (event.clientX - area.left - view.x) / view.k;
    const y = (event.clientY - area.top - view.y) / view.k;
    for (const rack of racks) {
      if (x < rack.x || x > rack.x + rack.w || y < rack.y || y > rack.y + rack.h) continue;
      const node = rack.nodes[Math.floor((y - rack.y) / (CELL + NODE_GAP))];
      return node ? { rack, node, at: Math.floor((x - rack.x) / CELL) } : null;
    }
    return null;
  }

  function tell(event) {
    const found = below(event);
    tip.hidden = !found;
    if (!found) return;
    const { node, at, rack } = found;
    const parts = [`${rack.site.name}, ${rack.name || "no rack"}`];
    if (node[2]) parts.push(floor.node_states[node[2]]);
    if (node[3]) parts.push("cordoned");
    if (at < node[4].length) {
      const tenant = floor.tenants[node[5].charCodeAt(at) - 0x100];
      parts.push(`device ${at}: ${floor.states[node[4].charCodeAt(at) - 97].replace("_", " ")}`);
      if (tenant) parts.push(`tenant ${tenant}`);
      if (node[8][at] !== "-") parts.push(`${node[8][at]}0 % busy or more`);
      if (node[9][at] !== "-") parts.push(`draws ${node[9][at]}0 % of its maximum or more`);
      if (node[10][at] !== "-") parts.push(`${degrees(Number(node[10][at]))} \u00b0C or more`);
      if (node[6][at] !== "a") parts.push(`health ${floor.healths[node[6].charCodeAt(at) - 97]}`);
    }
    const head = document.createElement("b");
    head.textContent = node[1];
    tip.replaceChildren(head, parts.join(", "));
    const area = box.getBoundingClientRect();
    const x = event.clientX - area.left;
    const y = event.clientY - area.top;
    tip.style.left = `${Math.min(x + 14, area.width - tip.offsetWidth - 8)}px`;
    tip.style.top = `${y + tip.offsetHeight + 24 > area.height ? y - tip.offsetHeight - 10 : y + 16}px`;
  }

  function zoom(factor, atX = box.clientWidth / 2, atY = box.clientHeight / 2) {
    const k = Math.min(12, Math.max(0.02, view.k * factor));
    view = { k, x: atX - (atX - view.x) * (k / view.k), y: atY - (atY - view.y) * (k / view.k) };
    draw();
  }

  function key(title, colour) {
    const item = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = colour;
    item.append(swatch, title);
    return item;
  }

  function degrees(tenth) {
    const [cool, hot] = floor.celsius;
    return cool + ((hot - cool) * tenth) / 10;
  }

  function tellLegend() {
    const items = {
      state: () => floor.states.map((state, at) => key(state.replace("_", " "), colours.state[at])),
      tenant: () => floor.tenants.slice(0, 24).map((name, at) => key(name || "nobody", colours.tenant[at])),
      load: () => [key("not measured", colours.empty), key("idle", colours.load[0]), key("half busy", colours.load[5]), key("busy", colours.load[9])],
      power: () => [key("not measured", colours.empty), key("up to 10 % of its maximum", colours.load[0]), key("half", colours.load[5]), key("90 % or more", colours.load[9])],
      warmth: () => [key("not measured", colours.empty), ...[0, 3, 6, 9].map((tenth) => key(`${degrees(tenth)} \u00b0C or more`, colours.warmth[tenth]))],
      sold: () => [key("nothing sold", colours.empty), key("a slice", colours.load[1]), key("half", colours.load[5]), key("all of it", colours.load[9])],
      health: () => [key("ok", colours.good), key("suspect", colours.warn), key("failed", colours.bad)],
    }[choice.value]();
    legend.replaceChildren(...items, key("node unreachable", colours.bad));
  }

  async function load() {
    try {
      const answer = await fetch(box.dataset.source, { headers: { "X-Penstock-Live": "1" } });
      if (!answer.ok) return;
      floor = await answer.json();
    } catch {
      return; // the sign above says that the connection is lost, and asks again
    }
    readColours();
    measure();
    tellLegend();
    if (!fitted) {
      fitted = true;
      fit();
    } else draw();
    box.dataset.ready = String(racks.length);
  }

  let held = null;
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, y: event.clientY };
    moved = 0;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return floor && tell(event);
    moved += Math.abs(event.clientX - held.x) + Math.abs(event.clientY - held.y);
    view.x += event.clientX - held.x;
    view.y += event.clientY - held.y;
    held = { x: event.clientX, y: event.clientY };
    tip.hidden = true;
    draw();
  });
  canvas.addEventListener("pointerup", (event) => {
    held = null;
    if (moved > 6 || !floor) return;
    const found = below(event);
    if (!found) return;
    const device = found.at < found.node[4].length && CELL * view.k >= 8 ? `/devices/${found.at}` : "";
    window.location.assign(`${base}/nodes/${found.node[0]}${device}`);
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const area = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - area.left, event.clientY - area.top);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
    if (steps[event.key]) {
      view.x += steps[event.key][0];
      view.y += steps[event.key][1];
      draw();
    } else if (event.key === "+" || event.key === "=") zoom(1.4);
    else if (event.key === "-") zoom(1 / 1.4);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  document.getElementById("floor-in").addEventListener("click", () => zoom(1.5));
  document.getElementById("floor-out").addEventListener("click", () => zoom(1 / 1.5));
  document.getElementById("floor-fit").addEventListener("click", fit);
  choice.addEventListener("change", () => {
    tellLegend();
    draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    draw();
  });
  new ResizeObserver(() => floor && draw()).observe(box);
  document.body.addEventListener("live", load);
  load();
})();
