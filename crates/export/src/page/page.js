// SPDX-License-Identifier: MIT OR Apache-2.0
// The page of one reading: chord, tunnel ids, ends, levels, rows. Data is only ever shown as text.
"use strict";
(() => {
  const { reading, palette, filter, smaller, theme, top, coarsest } = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const TAU = 2 * Math.PI;
  const RADIUS = 290, INNER = RADIUS * 0.92, FOOT = RADIUS * 0.91, CLEARLY = 1.2;
  const LIST = 300, ROWS = 200;
  const TITLES = { groups: "groups", outer: "hosts", inner: "inner addresses" };

  // ---- numbers formatted as in the program ------------------------------------------------------
  const scaled = (n, unit, step = 1000) => {
    const prefixes = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
    let i = 0;
    while (n >= step - 0.5 && i + 1 < prefixes.length) { n /= step; i += 1; }
    const number = n > 0 && n < 0.05 ? "<0.1" : n > 0 && n < 99.95 && (i > 0 || n % 1) ? n.toFixed(1) : n.toFixed(0);
    return `${number} ${prefixes[i]}${unit}`.trimEnd();
  };
  const percent = (part, whole) => {
    if (!whole) return "-";
    if (part === whole) return "100 %";
    const p = part / whole * 100;
    return p === 0 ? "0 %" : p < 0.05 ? "<0.1 %" : p > 99.9 && p < 100 ? "99.9 %" : `${p.toFixed(1)} %`;
  };
  const seconds = reading.interval_ns / 1e9;
  const UNITS = {
    "bits/s": { of: (c) => c.bytes, text: (n) => (seconds > 0 ? scaled(n * 8 / seconds, "b/s") : "-") },
    bytes: { of: (c) => c.bytes, text: (n) => scaled(n, "B") },
    packets: { of: (c) => c.packets, text: (n) => scaled(n, "") },
  };
  // Characters that move the cursor, hide or reverse text are shown as a mark.
  const clean = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029\u115f\u3164\uffa0]/gu, "\ufffd");

  // ---- elements ---------------------------------------------------------------------------------
  const make = (name, attributes = {}, ...children) => {
    const svg = ["path", "g", "text"].includes(name);
    const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
      else if (value !== false && value !== undefined) e.setAttribute(key, value);
    }
    e.append(...children.map((c) => (typeof c === "string" ? clean(c) : c)));
    return e;
  };
  const coloured = (e, property, colour) => { e.style[property] = colour; return e; };

  // ---- rows -> pairs -> matrix ------------------------------------------------------------------
  const OTHER = "\u0000other", GROUP = "\u0001"; // no address, and what a group's path begins with
  // a row of packets that another interface counts contributes nothing
  const rows = reading.flows.filter((f) => !f.counted_on).map((f) => {
    const tunnel = f.tunnel === null ? "none" : f.vni === null ? f.tunnel : `${f.tunnel} ${f.vni}`;
    const outer = [f.outer_sip ?? "overflow", f.outer_dip ?? "overflow"];
    const inner = f.inner_sip !== null ? [f.inner_sip, f.inner_dip] : outer.map((a) => (f.outer_sip === null ? a : `${a} (${f.inner_proto})`));
    const groups = [f.outer_sgroup, f.outer_dgroup].map((path, i) => {
      const parts = (path ?? "").split("/");
      return path && parts.length > coarsest ? GROUP + parts.slice(0, coarsest + 1).join("/") : outer[i];
    });
    return {
      f, tunnel, outer, inner, groups,
      fwd: { packets: f.fwd_pkts, bytes: f.fwd_bytes }, rev: { packets: f.rev_pkts, bytes: f.rev_bytes },
    };
  });
  const grouped = coarsest !== null;
  const ORDER = new Intl.Collator("en", { numeric: true }).compare;
  const state = {
    unit: "bits/s", tunnel: null, crumbs: [], marks: new Set(), hover: null, top,
    theme: theme ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"),
  };
  const admits = (crumb, pair) => {
    const [a, b] = pair;
    return crumb.pair
      ? (crumb.pair[0] === a && crumb.pair[1] === b) || (crumb.pair[0] === b && crumb.pair[1] === a)
      : crumb.ends.has(a) || crumb.ends.has(b);
  };
  // What was entered, one after the other: groups, their hosts, inner addresses. Hosts elsewhere stay in their groups
  // meanwhile. Entering a host without a group leads to inner addresses.
  const entered = () => new Set(state.crumbs.slice(0, 1).flatMap((c) => c.pair ?? [...c.ends]));
  const levels = () => {
    if (!grouped) return ["outer", "inner"];
    const into = [...entered()];
    return into.length === 0 || into.some((e) => e.startsWith(GROUP)) ? ["groups", "outer", "inner"] : ["groups", "inner"];
  };
  const level = () => levels()[Math.min(state.crumbs.length, levels().length - 1)];
  const endsAt = () => {
    const into = entered();
    return (r, level) => (level === "outer" && grouped ? r.outer.map((host, i) => (into.has(r.groups[i]) ? host : r.groups[i])) : r[level]);
  };

  const compute = () => {
    const of = UNITS[state.unit].of;
    const [endsOf, path, here] = [endsAt(), levels(), level()];
    const scope = rows.filter((r) => state.crumbs.every((c, i) => admits(c, endsOf(r, path[i]))));
    const tunnels = new Map();
    for (const r of scope) tunnels.set(r.tunnel, (tunnels.get(r.tunnel) ?? 0) + of(r.fwd) + of(r.rev));
    const everything = [...tunnels.values()].reduce((a, b) => a + b, 0);
    const shown = state.tunnel === null ? scope : scope.filter((r) => r.tunnel === state.tunnel);
    const sums = new Map(), pairs = new Map();
    const add = (map, key, n) => map.set(key, (map.get(key) ?? 0) + n);
    for (const r of shown) {
      const [a, b] = endsOf(r, here);
      const [fwd, rev] = [of(r.fwd), of(r.rev)];
      add(sums, a, fwd + rev);
      if (a !== b) add(sums, b, fwd + rev);
      add(pairs, JSON.stringify([a, b]), fwd);
      add(pairs, JSON.stringify([b, a]), rev);
    }
    let ends = [...sums.keys()].sort((a, b) => sums.get(b) - sums.get(a) || ORDER(a, b));
    let folded = 0;
    if (ends.length > state.top + 1) {
      folded = ends.length - state.top;
      ends = [...ends.slice(0, state.top), OTHER];
    }
    const place = new Map(ends.map((e, i) => [e, i]));
    const n = ends.length;
    const matrix = ends.map(() => new Array(n).fill(0));
    for (const [key, v] of pairs) {
      const [a, b] = JSON.parse(key);
      matrix[place.get(a) ?? n - 1][place.get(b) ?? n - 1] += v;
    }
    const sent = matrix.map((row) => row.reduce((a, b) => a + b, 0));
    const received = ends.map((_, j) => matrix.reduce((sum, row) => sum + row[j], 0));
    const total = sent.reduce((a, b) => a + b, 0);
    return { scope: shown, tunnels, everything, ends, folded, matrix, sent, received, total };
  };

  // ---- the circle: d3-chord's layout with groups descending and feet ascending --------------------
  const layout = (matrix, wanted) => {
    const n = matrix.length;
    const padding = Math.min(wanted, TAU / 4 / Math.max(n, 1));
    const sums = matrix.map((row) => row.reduce((a, b) => a + b, 0));
    const total = sums.reduce((a, b) => a + b, 0);
    let scale = Math.max(0, TAU - padding * n) / total;
    const gap = scale === 0 ? TAU / n : padding;
    if (!Number.isFinite(scale)) scale = 0; // nothing was sent
    const order = [...sums.keys()].sort((a, b) => sums[b] - sums[a] || a - b);
    const groups = new Array(n), feet = new Map();
    let x = 0;
    for (const i of order) {
      const start = x;
      const peers = [...matrix.keys()].filter((j) => matrix[i][j] > 0 || matrix[j][i] > 0).sort((a, b) => matrix[i][a] - matrix[i][b] || a - b);
      for (const j of peers) {
        const foot = { group: i, start: x, end: x + matrix[i][j] * scale, value: matrix[i][j] };
        x = foot.end;
        const key = `${Math.min(i, j)} ${Math.max(i, j)}`;
        const pair = feet.get(key) ?? [];
        if (i <= j) pair[0] = foot;
        if (j <= i) pair[1] = foot;
        feet.set(key, pair);
      }
      groups[i] = { start, end: x, value: sums[i] };
      x += gap;
    }
    const ribbons = [...feet.values()].map(([low, high]) => (low.value < high.value ? { source: high, target: low } : { source: low, target: high }));
    return { groups, ribbons };
  };

  const at = (angle, radius) => `${(Math.sin(angle) * radius).toFixed(2)} ${(-Math.cos(angle) * radius).toFixed(2)}`;
  const arc = (radius, from, to) => {
    const middle = (from + to) / 2, sweep = to > from ? 1 : 0;
    return `A${radius} ${radius} 0 0 ${sweep} ${at(middle, radius)}A${radius} ${radius} 0 0 ${sweep} ${at(to, radius)}`;
  };
  const widen = (start, end, least) => {
    const missing = Math.max(0, least - (end - start)) / 2;
    return [start - missing, end + missing];
  };
  const groupPath = ([a, b]) => `M${at(a, RADIUS)}${arc(RADIUS, a, b)}L${at(b, INNER)}${arc(INNER, b, a)}Z`;
  const ribbonPath = ([a, b, c, d], self) =>
    `M${at(a, FOOT)}${arc(FOOT, a, b)}${self ? "" : `Q0 0 ${at(c, FOOT)}${arc(FOOT, c, d)}`}Q0 0 ${at(a, FOOT)}Z`;

  // ---- colours: one per end, the same at every level ---------------------------------------------
  const slots = new Map();
  const hash = (text) => {
    let h = 0x811c9dc5;
    for (const c of new TextEncoder().encode(text)) h = Math.imul(h ^ c, 0x01000193) >>> 0;
    return h;
  };
  const learn = (ends) => {
    const used = new Map();
    const take = (e, s) => { slots.set(e, s); used.set(s, (used.get(s) ?? 0) + 1); };
    const known = ends.filter((e) => e !== OTHER);
    for (const e of known) if (slots.has(e)) take(e, slots.get(e));
    for (const e of known.filter((e) => !slots.has(e)).sort(ORDER)) {
      // the one derived from its name; if taken, a free base colour, and finally any free one
      const first = hash(e) % palette.base;
      const order = [...Array(palette.base).keys()].map((k) => (first + k) % palette.base);
      for (let s = palette.base; s < palette.dark.length; s += 1) order.push(s);
      take(e, order.reduce((best, s) => ((used.get(s) ?? 0) < (used.get(best) ?? 0) ? s : best), first));
    }
  };
  const colour = (e) => (e === OTHER || e === "overflow" ? "#808088" : palette[state.theme][slots.get(e) ?? 0]);

  // ---- texts ------------------------------------------------------------------------------------
  const name = (e, p) => (e === OTHER ? `${p.folded} others` : e.startsWith(GROUP) ? e.slice(GROUP.length) : e);
  const text = (n) => UNITS[state.unit].text(n);
  const received = (p, to, from) => {
    const v = p.matrix[from][to];
    const [a, b] = [name(p.ends[to], p), name(p.ends[from], p)];
    return `${a} received from ${b}: ${text(v)} (${percent(v, p.received[to])} of ${a}'s total, ${percent(v, p.total)} of all)`;
  };
  const sayings = (part, p) => {
    if (part.end !== undefined) {
      const i = part.end;
      const partners = p.ends.filter((_, j) => p.matrix[i][j] > 0 || p.matrix[j][i] > 0).length;
      return [
        `${name(p.ends[i], p)}: ${partners} ${partners === 1 ? "partner" : "partners"}`,
        `sent ${text(p.sent[i])} (${percent(p.sent[i], p.total)} of all)`,
        `received ${text(p.received[i])} (${percent(p.received[i], p.total)} of all)`,
      ];
    }
    const [a, b] = part.pair;
    return a === b ? [received(p, a, a)] : [received(p, a, b), received(p, b, a)];
  };
  const touches = (part, i) => (part.end !== undefined ? part.end === i : part.pair.includes(i));
  const lit = (hover, part) => {
    if (part.end !== undefined) return touches(hover, part.end);
    return hover.end !== undefined ? touches(part, hover.end) : part.pair[0] === hover.pair[0] && part.pair[1] === hover.pair[1];
  };

  let picture = compute();
  let shapes = []; // { part, path, element, now, label }

  const hover = (part, event) => {
    state.hover = part;
    $("chord").firstElementChild?.classList.toggle("picked", part !== null);
    for (const s of shapes) {
      const on = part !== null && lit(part, s.part);
      s.element.classList.toggle("on", on);
      s.label?.classList.toggle("on", on || (part?.end !== undefined && s.part.end !== undefined &&
        picture.matrix[part.end][s.part.end] + picture.matrix[s.part.end][part.end] > 0));
    }
    [...$("ends").children].forEach((li, i) => {
      li.classList.toggle("on", part !== null && touches(part, i));
      li.classList.toggle("off", part !== null && !touches(part, i));
    });
    for (const tr of document.querySelectorAll("#rows tbody tr")) {
      const ends = JSON.parse(tr.dataset.ends).map((e) => picture.ends.indexOf(e)).map((i) => (i < 0 ? picture.ends.indexOf(OTHER) : i));
      tr.classList.toggle("off", part !== null && !(part.end !== undefined ? ends.includes(part.end)
        : ends.includes(part.pair[0]) && ends.includes(part.pair[1])));
    }
    const lines = part === null ? ["point at an arc or a ribbon; click to go inside"] : sayings(part, picture);
    $("details").replaceChildren(make("h2", {}, part === null ? "total" : "selected"),
      ...(part === null ? [make("p", {}, `${text(picture.total)} in ${picture.scope.length} ${picture.scope.length === 1 ? "row" : "rows"}`)] : []), ...lines.map((l) => make("p", {}, l)));
    const tip = $("tip");
    tip.hidden = part === null || !event || event.clientX === undefined;
    if (!tip.hidden) {
      tip.replaceChildren(...lines.map((l) => make("div", {}, l)));
      const { width, height } = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
      tip.style.top = `${event.clientY + 18 + height > innerHeight ? Math.max(4, event.clientY - height - 12) : event.clientY + 18}px`;
    }
  };

  // ---- actions -----------------------------------------------------------------------------------
  const inside = (crumb) => {
    if ((crumb.pair ?? [...crumb.ends]).includes(OTHER)) {
      state.top = Math.min(state.top * 2, 1000); // "others" is opened by showing more of them
    } else if (state.crumbs.length < levels().length) {
      state.crumbs.push({ ...crumb, marks: new Set(state.marks) });
      state.marks.clear();
    }
    draw();
  };
  const enter = (part) => {
    const named = (i) => name(picture.ends[i], picture);
    if (part.end !== undefined) inside({ ends: new Set([picture.ends[part.end]]), label: named(part.end) });
    else inside({ pair: part.pair.map((i) => picture.ends[i]), label: part.pair[0] === part.pair[1] ? named(part.pair[0]) : part.pair.map(named).join(" ⇄ ") });
  };
  const enterMarked = () => {
    const marked = [...state.marks];
    inside({ ends: new Set(marked), label: name(marked[0], picture) + (marked.length === 1 ? "" : ` +${marked.length - 1}`) });
  };
  const mark = (end) => {
    if (end === OTHER) return;
    if (!state.marks.delete(end)) state.marks.add(end);
    draw();
  };
  const leave = (levels) => {
    if (levels >= state.crumbs.length) return;
    state.marks = state.crumbs[levels].marks;
    state.crumbs.length = levels;
    draw();
  };
  const click = (part) => (event) => {
    if ((event.ctrlKey || event.metaKey || event.shiftKey) && part.end !== undefined) mark(picture.ends[part.end]);
    else enter(part);
  };

  // ---- drawing -----------------------------------------------------------------------------------
  const ease = (t) => ((t *= 2) <= 1 ? t * t * t / 2 : ((t -= 2) * t * t + 2) / 2);
  let moving = 0;
  const drawChord = () => {
    const p = picture, circle = layout(p.matrix, 0.04);
    const key = (part) => (part.end !== undefined ? p.ends[part.end] : JSON.stringify(part.pair.map((i) => p.ends[i]).sort()));
    const old = new Map(shapes.map((s) => [s.key, s.now]));
    const breadth = (r) => r.source.end - r.source.start + r.target.end - r.target.start;
    const parts = circle.ribbons.sort((a, b) => breadth(b) - breadth(a)).slice(0, 600).map(({ source: s, target: t }) => {
      const part = { pair: [Math.min(s.group, t.group), Math.max(s.group, t.group)] };
      const [most, least] = p.sent[s.group] > p.sent[t.group] ? [s, t] : [t, s];
      const owner = s.group === t.group || s.value > t.value * CLEARLY ? s : p.sent[most.group] === p.sent[least.group] ? (s.group > t.group ? s : t) : least;
      // in the order of their names, so that a ribbon whose direction changes does not flip
      const ordered = p.ends[s.group] <= p.ends[t.group] ? [s, t] : [t, s];
      const feet = ordered.flatMap((f) => widen(f.start, f.end, f.value > 0 ? 0.0015 : 0));
      return { part, class: "ribbon", fill: p.ends[owner.group], to: feet, draw: (v) => ribbonPath(v, s.group === t.group) };
    });
    circle.groups.forEach((g, i) => {
      if (p.sent[i] + p.received[i] > 0) parts.push({ part: { end: i }, class: "arc", fill: p.ends[i], to: widen(g.start, g.end, 0.003), draw: groupPath });
    });
    const g = make("g");
    shapes = parts.map((s) => {
      const tell = (event) => hover(s.part, event);
      const element = make("path", {
        class: s.class, fill: colour(s.fill), tabindex: 0, role: "button", "aria-label": clean(sayings(s.part, p).join("; ")),
        onmousemove: tell, onfocus: tell, onblur: () => hover(null), onmouseleave: () => hover(null), onclick: click(s.part),
        onkeydown: (event) => { if (event.key === "Enter") enter(s.part); },
      });
      g.append(element);
      return { ...s, key: key(s.part), element };
    });
    // labels along the radius, the largest first, without overlaps
    const taken = [];
    for (const s of shapes.filter((s) => s.part.end !== undefined).sort((a, b) => p.sent[b.part.end] + p.received[b.part.end] - p.sent[a.part.end] - p.received[a.part.end])) {
      const angle = (s.to[0] + s.to[1]) / 2;
      if (taken.some((t) => Math.abs(Math.sin((t - angle) / 2)) * 2 * RADIUS < 14)) continue;
      taken.push(angle);
      const flip = Math.sin(angle) < 0, turn = angle * 360 / TAU - 90;
      const full = clean(name(p.ends[s.part.end], p));
      const short = full.length > 17 ? `${full.slice(0, 8)}…${full.slice(-8)}` : full;
      s.label = make("text", {
        transform: `rotate(${turn.toFixed(2)}) translate(${RADIUS + 8}) rotate(${flip ? 180 : 0})`, "text-anchor": flip ? "end" : "start", dy: "0.35em",
        fill: state.theme === "light" ? "#24242c" : "#dcdce4", "font-weight": state.marks.has(p.ends[s.part.end]) ? "bold" : "normal",
        onmousemove: (event) => hover(s.part, event), onmouseleave: () => hover(null), onclick: click(s.part),
      }, (state.marks.has(p.ends[s.part.end]) ? "● " : "") + short);
      g.append(s.label);
    }
    $("chord").replaceChildren(g);
    $("empty").hidden = shapes.length > 0;
    $("empty").textContent = rows.length === 0 ? "nothing was sent" : "nothing was sent here";

    // existing shapes slide to their new place, new ones grow out of their middle
    const still = old.size === 0 || matchMedia("(prefers-reduced-motion: reduce)").matches;
    const middles = (v) => v.map((_, i) => (v[i - i % 2] + v[i - i % 2 + 1]) / 2);
    for (const s of shapes) s.from = still ? s.to : old.get(s.key) ?? middles(s.to);
    const begun = performance.now(), me = ++moving;
    const step = (now) => {
      if (me !== moving) return;
      const t = still ? 1 : Math.min(1, Math.max(0, (now - begun) / 500)), e = ease(t);
      for (const s of shapes) {
        s.now = s.to.map((v, i) => s.from[i] + (v - s.from[i]) * e);
        s.element.setAttribute("d", s.draw(s.now));
      }
      if (t < 1) requestAnimationFrame(step);
    };
    step(begun);
  };

  const bar = (share, fill) => {
    const i = coloured(make("i"), "width", `${(share * 100).toFixed(2)}%`);
    return make("span", { class: "bar" }, share > 0 ? coloured(i, "background", fill ?? "") : "");
  };

  const drawTunnels = () => {
    const p = picture;
    const item = (tunnel, label, n, value) => {
      const input = make("input", { type: "radio", name: "tunnel", onchange: () => { state.tunnel = tunnel; draw(); } });
      input.checked = state.tunnel === tunnel;
      return make("li", {}, make("label", {}, input, make("span", { class: "name", title: clean(label) }, label), bar(p.everything ? n / p.everything : 0), make("span", { class: "value" }, value)));
    };
    const list = [...p.tunnels].sort((a, b) => b[1] - a[1] || ORDER(a[0], b[0])).slice(0, LIST);
    if (state.tunnel !== null && !p.tunnels.has(state.tunnel)) list.unshift([state.tunnel, 0]);
    $("tunnels").replaceChildren(item(null, "all", 0, text(p.everything)), ...list.map(([t, n]) => item(t, t, n, percent(n, p.everything))));
  };

  const drawEnds = () => {
    const p = picture;
    const both = (i) => p.sent[i] + p.received[i];
    const most = Math.max(1, ...p.ends.map((_, i) => both(i)));
    $("ends-title").textContent = `${TITLES[level()]} (${p.folded ? `${p.ends.length - 1} of ${p.ends.length - 1 + p.folded}` : p.ends.length})`;
    $("ends").replaceChildren(...p.ends.map((e, i) => {
      const check = make("input", { type: "checkbox", "aria-label": `mark ${clean(name(e, p))}`, onchange: () => mark(e) });
      check.checked = state.marks.has(e);
      check.disabled = e === OTHER || state.crumbs.length >= levels().length;
      return make("li", { onmouseenter: () => hover({ end: i }), onmouseleave: () => hover(null) }, check,
        make("button", { onclick: () => enter({ end: i }), title: clean(e === OTHER ? "show more of them" : "go inside") },
          coloured(make("span", { class: "swatch" }), "background", colour(e)), make("span", { class: "name" }, name(e, p)),
          bar(both(i) / most, colour(e)), make("span", { class: "value" }, text(both(i)))));
    }));
  };

  const drawRows = () => {
    const of = UNITS[state.unit].of, p = picture;
    const list = [...p.scope].sort((a, b) => of(b.fwd) + of(b.rev) - of(a.fwd) - of(a.rev));
    const titles = ["interface", "tunnel", "inside", "hosts", ...(grouped ? ["groups"] : []), "inner", "→ sent", "← sent", "packets", "share"];
    const number = (i) => (i >= titles.length - 4 ? { class: "number" } : {});
    const [endsOf, here] = [endsAt(), level()];
    const groupsOf = (f) => (f.outer_sgroup === f.outer_dgroup ? f.outer_sgroup ?? "-" : `${f.outer_sgroup ?? "-"} ⇄ ${f.outer_dgroup ?? "-"}`);
    document.querySelector("#rows thead").replaceChildren(make("tr", {}, ...titles.map((t, i) => make("th", number(i), t))));
    document.querySelector("#rows tbody").replaceChildren(...list.slice(0, ROWS).map((r) => {
      const nested = r.f.tunnels.length > 1 ? r.f.tunnels[r.f.tunnels.length - 1] : null;
      const cells = [
        r.f.interface, r.tunnel, nested ? `${nested.kind} ${nested.id ?? ""}${r.f.depth > 2 ? ` (${r.f.depth} deep)` : ""}`.trim() : "",
        r.f.outer_sip === null ? "overflow" : `${r.outer[0]} ⇄ ${r.outer[1]}`,
        ...(grouped ? [groupsOf(r.f)] : []),
        r.f.other ? "other" : r.f.inner_sip === null ? r.f.inner_proto : `${r.inner[0]} ⇄ ${r.inner[1]}`,
        text(of(r.fwd)), text(of(r.rev)), scaled(r.fwd.packets + r.rev.packets, ""), percent(of(r.fwd) + of(r.rev), p.total),
      ];
      return make("tr", { "data-ends": JSON.stringify(endsOf(r, here)) }, ...cells.map((c, i) => make("td", number(i), c)));
    }));
    const more = list.length - ROWS;
    $("rows-title").textContent = `rows (${list.length}${more > 0 ? `, the ${ROWS} largest shown` : ""}${smaller ? `; ${smaller} smaller ones are summed up as "other"` : ""})`;
  };

  const drawPath = () => {
    const crumbs = [grouped ? "groups" : "hosts", ...state.crumbs.map((c) => c.label)];
    $("path").replaceChildren(...crumbs.map((label, i) =>
      make("li", {}, make("button", { onclick: () => leave(i), "aria-current": i === crumbs.length - 1 ? "location" : false }, label))));
    $("enter").hidden = state.marks.size === 0;
    $("enter").textContent = `enter ${state.marks.size} marked`;
    $("units").replaceChildren(...Object.keys(UNITS).map((u) =>
      make("button", { "aria-pressed": String(state.unit === u), onclick: () => { state.unit = u; draw(); } }, u)));
  };

  const drawBooks = () => {
    const both = (c) => c.rx_pkts + c.tx_pkts;
    $("books").replaceChildren(...reading.interfaces.map((i) => {
      const seen = both(i.seen), stops = Object.entries(i.stops).filter(([, c]) => both(c) > 0);
      const fault = stops.some(([s]) => s !== "plain" && s !== "non_ip");
      const why = [...stops.map(([s, c]) => `${s} ${percent(both(c), seen)}`), ...(both(i.suspect) ? [`${scaled(both(i.suspect), "")} suspect`] : [])];
      return make("p", {}, `${i.name}${i.netns ? ` in ${i.netns}` : ""} (${i.hook}): ${scaled(seen, "")} packets seen, `,
        make("span", { class: fault ? "warn" : "good" }, `${percent(both(i.counted), seen)} counted`), why.length ? `, ${why.join(", ")}` : "");
    }));
  };

  const draw = () => {
    document.documentElement.dataset.theme = state.theme;
    picture = compute();
    learn(picture.ends);
    drawPath();
    drawChord();
    drawTunnels();
    drawEnds();
    drawRows();
    hover(null);
  };

  document.querySelector("main").layout = layout; // for tests
  const names = [...new Set(reading.interfaces.map((i) => i.name))].join(" ");
  $("title").textContent = document.title = clean(`${names ? `${names} on ` : ""}${reading.host}`);
  $("note").textContent = clean(`${reading.since} to ${reading.taken} (${seconds.toFixed(1)} s)${filter ? ` · filter ${filter}` : ""} · ${reading.tool}`);
  $("clear").onclick = () => { Object.assign(state, { tunnel: null, crumbs: [], marks: new Set(), top }); draw(); };
  $("enter").onclick = enterMarked;
  $("theme").onclick = () => { state.theme = state.theme === "light" ? "dark" : "light"; draw(); };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") leave(state.crumbs.length - 1);
    if (event.key === "c") $("clear").click();
  });
  drawBooks();
  draw();
})();
