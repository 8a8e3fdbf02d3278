// Sections in order, and the line above them that leads on; what the reader opened and scrolled stays.

const NAVIGATION = { index: "all sweeps", sweep: "the sweep", run: "the run in MLflow" };
const shownHtml = new WeakMap();  // element to what was last put into it

const element = (tag, attributes = {}, text = null) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return made;
};

const link = (href, text) => element("a", { href, target: "_blank", rel: "noopener" }, text);

const openDetails = (place) => new Set([...place.querySelectorAll("details[open] > summary")]
  .map((summary) => summary.textContent));

const update = (place, html, fill) => {
  if (shownHtml.get(place) === html) return;
  shownHtml.set(place, html);
  const opened = openDetails(place);
  const scrolled = [...place.querySelectorAll(".scroll")].map((e) => [e.scrollLeft, e.scrollTop]);
  fill();
  for (const summary of place.querySelectorAll("details > summary"))
    if (opened.has(summary.textContent)) summary.parentElement.open = true;
  place.querySelectorAll(".scroll").forEach((e, i) => {
    if (scrolled[i]) [e.scrollLeft, e.scrollTop] = scrolled[i];
  });
};

const setHtml = (place, html) => update(place, html, () => { place.innerHTML = html; });

const setNodes = (place, nodes) => {
  const made = element("div");
  made.append(...nodes);
  update(place, made.innerHTML, () => place.replaceChildren(...made.childNodes));
};

const newSection = (key) => {
  const place = element("section", { id: "section-" + key });
  place.append(element("h2"), element("div", { class: "html" }));
  place.append(element("div", { class: "figure", id: "figure-" + key, "data-key": key }));
  place.append(element("p", { class: "caption" }));
  observer.observe(place.querySelector(".figure"));
  return place;
};

const sectionOf = (section) => {
  const place = document.getElementById("section-" + section.key) || newSection(section.key);
  const [title, html, figure, caption] = place.children;
  title.textContent = section.title;
  title.hidden = !section.title;
  setHtml(html, section.html);
  figure.style.height = section.height + "px";
  figure.hidden = !section.has_figure;
  caption.textContent = section.caption;
  caption.hidden = !section.caption;
  return place;
};

const removeSection = (place) => {
  const figure = place.querySelector(".figure");
  observer.unobserve(figure);
  visible.delete(figure.dataset.key);
  Plotly.purge(figure);
  place.remove();
};

const showSections = (sections) => {
  const present = new Set(sections.map((section) => "section-" + section.key));
  for (const old of [...main.querySelectorAll("section")]) if (!present.has(old.id)) removeSection(old);
  let last = document.getElementById("state-of-page");
  for (const section of sections) {
    const place = sectionOf(section);
    const next = last.nextElementSibling === panel ? panel.nextElementSibling : last.nextElementSibling;
    if (next !== place) last.after(place);
    last = place;
  }
};

const navigation = (links) => Object.entries(NAVIGATION).filter(([key]) => links[key])
  .map(([key, text]) => key === "run" ? link(links[key], text)
    : element("a", { href: links[key] }, text));

const showHead = () => {
  if (!main.querySelector("h1")) main.replaceChildren(
    element("nav"), element("h1"), element("div", { id: "summary" }),
    element("div", { id: "state-of-page", "aria-live": "polite" }));
  const [place, title, summary] = main.children, found = navigation(links());
  place.hidden = !found.length;
  setNodes(place, found);
  document.title = title.textContent = page.state.title;
  setHtml(summary, page.state.summary);
};
