// Draws a page from its state: sections in order, figures when they come into view, a trial on a click.
// A served page asks for its state again and keeps zoom, selection and place.

const PATIENCE_MS = 10000;
const main = document.getElementById("page"), panel = document.getElementById("trial");
const isFramed = window.self !== window.top;  // MLflow's frame, out of which no link leads
const page = {
  state: JSON.parse(document.getElementById("state").textContent),
  trials: null,  // read at the first click: many trials take a while
};

const links = () => isFramed ? {} : page.state.links;

const show = () => {
  showHead();
  showSections(page.state.sections);
  drawVisible();
  updatePanel();
};

const get = (path, headers = {}) =>
  fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });

const reason = (error) => error.name === "TimeoutError"
  ? `no answer within ${PATIENCE_MS / 1000} s` : error.message || String(error);

// Shows what is new; returns the tag of what is shown.
const catchUp = async (path, tag) => {
  const answer = await get(path, tag ? { "If-None-Match": tag } : {});
  if (answer.status === 304) return tag;
  if (answer.status !== 200) throw new Error((await answer.text()).slice(0, 300));
  const state = await answer.json();
  page.trials = await (await get(path + "/trials")).json();
  page.state = state;
  show();
  return answer.headers.get("ETag") || "";
};

const follow = (path) => {
  const note = document.getElementById("state-of-page");
  let tag = "", delay = 2000;
  const ask = async () => {
    try {
      tag = await catchUp(path, tag);
      note.textContent = "";
      delay = 2000;
    } catch (error) {
      note.textContent = "not up to date, asking again: " + reason(error);
      delay = Math.min(2 * delay, 30000);
    }
    setTimeout(ask, delay);
  };
  setTimeout(ask, delay);
};

document.addEventListener("click", (event) => {
  const place = event.target.closest("button[data-trial]");
  if (place) choose(place.dataset.trial, Number(place.dataset.epoch) || null,
                    place.closest("section").id.replace("section-", ""));
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawVisible();
  if (chosen) drawCurves(itemOf(chosen.trial));
});
window.addEventListener("beforeprint", drawAll);
show();
if (document.body.dataset.state) follow(document.body.dataset.state);
