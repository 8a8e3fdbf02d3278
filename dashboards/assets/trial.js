// The panel of a trial that a click opens below the section; an update leaves what has not changed.

// Plotly's own labels of a logarithmic axis leave out the decade between its powers of ten.
const STEPS = [[4, [1, 1.5, 2, 3, 4, 5, 6, 8]], [40, [1, 2, 5]], [Infinity, [1]]];
const logAxis = (values) => {
  const known = values.filter((value) => value > 0), ratio = Math.max(...known) / Math.min(...known);
  const digits = STEPS.find(([most]) => !(ratio >= most))[1];
  const ticks = [1, 10, 100, 1000, 10000].flatMap((power) => digits.map((digit) => digit * power));
  return { type: "log", tickvals: ticks, ticktext: ticks.map(String) };
};

let chosen = null;   // {trial, epoch, section}
let shownTrial = ""; // all that the panel tells, as JSON

const itemOf = (name) => {
  page.trials ??= JSON.parse(document.getElementById("trials").textContent);
  const trials = page.trials;
  return trials.items && Object.hasOwn(trials.items, name) ? trials.items[name] : null;
};

const number = (value) => typeof value === "number" && !Number.isInteger(value)
  ? Number(value.toPrecision(4)).toString() : String(value);

const copyable = (label, text) => {
  const line = element("p"), button = element("button", { type: "button" }, "copy");
  button.onclick = async () => {
    const code = line.querySelector("code");
    try { await navigator.clipboard.writeText(text); } catch {
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      try { document.execCommand("copy"); } catch { /* it is selected at least */ }
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  };
  line.append(label + " ", element("code", {}, text), " ", button);
  return line;
};

const rows = (pairs) => {
  const scroll = element("div", { class: "scroll", tabindex: "0" }), table = element("table");
  for (const [name, value] of pairs) {
    const row = element("tr");
    row.append(element("th", {}, name), element("td", { class: "long" }, number(value)));
    table.append(row);
  }
  scroll.append(table);
  return scroll;
};

const curves = (item, epoch) => {
  const groups = page.trials.curves.filter((group) => group.metrics.some((m) => item.curves[m.name]));
  const gap = 0.07, height = (1 - gap * (groups.length - 1)) / groups.length;
  const data = [], layout = { margin: { l: 58, r: 14, t: 10, b: 44 }, showlegend: true,
    legend: { orientation: "h", y: -0.14, yanchor: "top" }, xaxis: { title: { text: "epoch" } },
    shapes: [], uirevision: "keep" };
  groups.forEach((group, place) => {
    const axis = place ? "y" + (place + 1) : "y", top = 1 - place * (height + gap);
    layout["yaxis" + (place ? place + 1 : "")] = { title: { text: group.label, standoff: 8 },
      domain: [Math.max(0, top - height), top], ...(group.logarithmic
        ? logAxis(group.metrics.flatMap((metric) => item.curves[metric.name] || [])) : {}) };
    for (const metric of group.metrics) {
      if (item.curves[metric.name]) data.push({ x: item.epochs, y: item.curves[metric.name],
        mode: item.epochs.length > 60 ? "lines" : "lines+markers", marker: { size: 4 },
        name: metric.label, yaxis: axis });
    }
  });
  layout.xaxis.anchor = "y" + (groups.length > 1 ? groups.length : "");
  if (epoch) layout.shapes.push({ type: "line", xref: "x", yref: "paper", x0: epoch, x1: epoch, y0: 0,
    y1: 1, line: { color: SOFT, width: 1, dash: "dot" } });
  const c = colours();
  return [data, { ...inked(layout, c), template: template(c) }, 130 + 120 * groups.length];
};

const headline = () => chosen.trial + (chosen.epoch ? ", epoch " + chosen.epoch : "");

const standing = (item) => {
  const said = [element("h2", {}, headline())];
  said.push(element("p", { class: "soft" }, [item.status, item.reason].filter(Boolean).join(": ")));
  item.retries.forEach((reason) => said.push(element("p", {}, "tried again after: " + reason)));
  if (item.warning) said.push(element("p", {}, "warning: " + item.warning));
  if (item.source) said.push(element("p", {}, "imported from " + item.source));
  if (item.confirms) said.push(element("p", {}, "repeats " + item.confirms + " under a further seed"));
  const place = chosen.epoch ? item.epochs.indexOf(chosen.epoch) : -1;
  if (place >= 0) said.push(element("p", {}, Object.entries(item.curves)
    .filter(([metric]) => page.trials.objectives.includes(metric))
    .map(([metric, values]) => metric + " " + number(values[place])).join(", ")));
  return said;
};

const evaluationText = (epoch) => "its figures: artifact evaluations/epoch-"
  + String(epoch).padStart(4, "0") + "/report.html of the run";

const runLinks = (item) => {
  const { runs, points } = links(), run = encodeURIComponent(item.run);
  const found = runs ? [link(runs.replace("{run}", () => run), "open the run in MLflow")] : [];
  if (points) for (const epoch of item.evaluated)
    found.push(link(points + run + "/" + epoch, "its figures at epoch " + epoch));
  return found;
};

const identity = (item) => {
  if (!item.run) return [];
  const said = [copyable("run", chosen.trial), copyable("run id", item.run)], found = runLinks(item);
  if (found.length) {
    const line = element("p");
    line.append(...found.flatMap((made) => [made, " "]));
    said.push(line);
  } else if (item.evaluated.length)
    said.push(element("p", { class: "soft" }, evaluationText(item.evaluated[0])));
  return said;
};

const settings = (item) => {
  const rest = element("details");
  rest.append(element("summary", {}, "the rest of its configuration"),
              rows(Object.entries({ ...page.trials.common, ...item.config })));
  return [element("h3", {}, "searched"), rows(Object.entries(item.parameters)), rest];
};

const openPanel = () => {
  closePanel();
  const shut = element("button", { type: "button", class: "close", "aria-label": "close" }, "close");
  shut.onclick = closePanel;
  const figure = element("div", { class: "figure" });
  panel.append(shut, element("div"), element("div"), figure, element("div"));
};

const drawCurves = (item) => {
  const figure = panel.querySelector(".figure");
  figure.hidden = !item.epochs.length;
  if (figure.hidden) return;
  const [data, layout, height] = curves(item, chosen.epoch);
  figure.style.height = height + "px";
  Plotly.react(figure, data, layout, { ...CONFIG, displayModeBar: false });
};

const fillPanel = (item) => {
  const { objectives, curves: groups, common } = page.trials;
  const told = JSON.stringify([chosen.trial, chosen.epoch, item, objectives, groups, common, links()]);
  if (told === shownTrial) return;
  shownTrial = told;
  const [, top, names, , rest] = panel.children;
  setNodes(top, standing(item));
  setNodes(names, identity(item));
  setNodes(rest, settings(item));
  drawCurves(item);
};

const placePanel = () => {
  panel.hidden = false;
  const after = document.getElementById("section-" + chosen.section) || main.querySelector("section");
  if (after && panel.previousElementSibling !== after) after.after(panel);
  for (const row of document.querySelectorAll("tr[data-trial]")) row.classList.toggle("chosen",
    row.dataset.trial === chosen.trial && Number(row.dataset.epoch) === chosen.epoch);
};

const choose = (name, epoch, section) => {
  const item = itemOf(name);
  openPanel();
  if (!item) return closePanel();
  chosen = { trial: name, epoch, section };
  placePanel();
  fillPanel(item);
  panel.scrollIntoView({ block: "nearest", behavior: "smooth" });
};

const updatePanel = () => {
  if (!chosen) return;
  const item = itemOf(chosen.trial);
  if (!item) return closePanel();
  placePanel();
  fillPanel(item);
};

const closePanel = () => {
  chosen = null;
  shownTrial = "";
  const figure = panel.querySelector(".figure");
  if (figure) Plotly.purge(figure);
  panel.hidden = true;
  panel.replaceChildren();
  for (const row of document.querySelectorAll("tr.chosen")) row.classList.remove("chosen");
};
