// Figures: plotly's, in the colours of the page, drawn when they come into view.

const INK = "#010101", SOFT = "#020202";
const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
const shownAxes = new WeakMap();  // figure to its axes as the page gave them
const visible = new Set();  // keys of the figures that have been in view

const colours = () => {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { ink: of("--ink"), soft: of("--soft"), line: of("--line"), paper: of("--paper"),
           panel: of("--panel") };
};

const template = (c) => {
  const axis = { gridcolor: c.line, linecolor: c.line, zerolinecolor: c.line, tickcolor: c.line,
                 automargin: true, ticks: "outside", ticklen: 4 };
  return { layout: {
    font: { color: c.ink, size: 12, family: getComputedStyle(document.body).fontFamily },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
    hoverlabel: { bgcolor: c.panel, bordercolor: c.line, font: { color: c.ink } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: c.soft, activecolor: c.ink },
    colorway: ["#2b83c6", "#e08214", "#009e73", "#cc79a7", "#d55e00", "#8a8f98"] } };
};

// The stand-ins for the text's colour, wherever they are.
const inked = (value, c) => {
  if (value === INK) return c.ink;
  if (value === SOFT) return c.soft;
  if (Array.isArray(value)) return typeof value[0] === "object" || value[0] === INK || value[0] === SOFT
    ? value.map((item) => inked(item, c)) : value;
  if (value === null || typeof value !== "object" || "bdata" in value) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, inked(item, c)]));
};

// Plotly itself keeps a reader's zoom only while the page gives the same range, and ours follows the front.
const axesOf = (place) => Object.fromEntries(Object.entries(place.layout)
  .filter(([name]) => /^[xy]axis\d*$/.test(name))
  .map(([name, axis]) => [name, JSON.stringify([axis.range, axis.autorange])]));

const zoomedAxes = (place) => {
  const before = shownAxes.get(place) || {}, now = axesOf(place);
  return Object.fromEntries(Object.keys(now).filter((name) => name in before && now[name] !== before[name])
    .map((name) => [name, { range: place.layout[name].range, autorange: place.layout[name].autorange }]));
};

const draw = (key) => {
  const place = document.getElementById("figure-" + key), figure = page.state.figures[key];
  if (!place || !figure) return;
  const c = colours(), drawn = inked(figure, c), layout = { ...drawn.layout, template: template(c) };
  const zoomed = place.layout ? zoomedAxes(place) : {};
  for (const [name, seen] of Object.entries(zoomed)) layout[name] = { ...layout[name], ...seen };
  Plotly.react(place, drawn.data, layout, CONFIG).then(() => {
    // What the reader chose stays chosen; all else is what the page gave.
    shownAxes.set(place, { ...axesOf(place), ...(Object.keys(zoomed).length && shownAxes.get(place)
      ? Object.fromEntries(Object.keys(zoomed).map((name) => [name, shownAxes.get(place)[name]])) : {}) });
    if (place.dataset.listens) return;
    place.dataset.listens = "yes";
    place.on("plotly_click", (event) => choosePoint(event, key));
  });
};

const drawVisible = () => { for (const key of visible) draw(key); };

// What was never scrolled to would be blank on paper.
const drawAll = () => {
  for (const key of Object.keys(page.state.figures)) if (!visible.has(key)) {
    visible.add(key);
    draw(key);
  }
};

const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const key = entry.target.dataset.key;
    if (entry.isIntersecting && !visible.has(key)) { visible.add(key); draw(key); }
  }
}, { rootMargin: "300px" });

const choosePoint = (event, key) => {
  const data = event.points.map((point) => point.customdata).find((item) => Array.isArray(item));
  if (data) choose(data[0], data[1], key);
};
