// The console's one page: asks the public API once a second and shows the answer.
// The key comes behind "#key=" in the address or from the dialog; it stays in this tab.
"use strict";

const POLL_MS = 1000;
const SAMPLES_MAX = 60;
const KEY = "lodestone-key";
const MICROS = 1e6;

const at = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const brief = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const moneyFormats = new Map();
const rows = { campaigns: new Map(), workers: new Map(), parts: new Map() };
const rates = new Map();
const requestSamples = [];
let overview = null;
let isAsking = false;

// ---- the key

function takeKeyFromAddress() {
  const match = /[#&?]key=([^&]+)/.exec(location.hash);
  if (match) {
    sessionStorage.setItem(KEY, decodeURIComponent(match[1]));
    history.replaceState(null, "", location.pathname);
  }
}

function askForKey(problem) {
  at("ask-problem").textContent = problem;
  at("forget").hidden = true;
  if (!at("ask").open) at("ask").showModal();
}

at("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value.trim());
  at("key").value = "";
  at("ask").close();
  refresh();
});
at("ask").addEventListener("cancel", (event) => event.preventDefault());
at("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  askForKey("");
});

async function call(method, path) {
  const response = await fetch(path, {
    method,
    headers: { Authorization: `Bearer ${sessionStorage.getItem(KEY)}` },
    cache: "no-store",
    signal: AbortSignal.timeout(5000),
  });
  const body = await response.json();
  if (!response.ok) throw Object.assign(new Error(body.detail), { status: response.status });
  return body;
}

// ---- the loop

async function refresh() {
  if (isAsking || document.hidden || at("ask").open) return;
  if (!sessionStorage.getItem(KEY)) return askForKey("");
  isAsking = true;
  try {
    overview = await call("GET", "/api/v1/overview");
    at("forget").hidden = false;
    say("good", "live");
    show(overview);
  } catch (error) {
    if (error.status === 401) {
      sessionStorage.removeItem(KEY);
      askForKey("That key is not valid.");
    }
    say("bad", error.status === 401 ? "no key" : error.status ? error.message : "not connected");
  } finally {
    isAsking = false;
  }
}

async function change(id, action, button) {
  // Not "disabled": that would take the keyboard's focus away.
  if (button.ariaBusy === "true") return;
  button.ariaBusy = "true";
  try {
    await call("POST", `/api/v1/campaigns/${id}:${action}?reason=${encodeURIComponent("console")}`);
    notice("");
  } catch (error) {
    notice(`Campaign ${id} could not be changed: ${error.message}`);
  } finally {
    button.ariaBusy = null;
    refresh();
  }
}

function say(tone, text) {
  paint(at("link"), tone, text);
}

function notice(text) {
  at("notice").textContent = text;
  at("notice").hidden = !text;
}

// ---- words and numbers

function money(micros, currency) {
  if (micros === null || micros === undefined) return "–";
  if (!moneyFormats.has(currency)) {
    moneyFormats.set(currency, new Intl.NumberFormat("en", { style: "currency", currency }));
  }
  return moneyFormats.get(currency).format(micros / MICROS);
}

// A budget or target, which people choose: "$2,500" rather than "$2,500.00".
const chosen = (micros, currency) => money(micros, currency).replace(/\.00$/, "");
const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function goalWords(campaign) {
  const goal = campaign.goal;
  if (goal.kind === "target_cpa") return ["Target CPA", chosen(goal.target_cpa_micros, campaign.currency)];
  if (goal.kind === "target_roas") return ["Target ROAS", `${goal.target_roas.toFixed(2)}×`];
  return ["Most conversions", `worth ${chosen(goal.value_per_conversion_micros, campaign.currency)} each`];
}

function perSecond(name, count, now) {
  const before = rates.get(name);
  rates.set(name, { count, now });
  // A smaller count means that a process was started again.
  if (!before || now <= before.now || count < before.count) return null;
  return ((count - before.count) * 1000) / (now - before.now);
}

const rateWords = (rate) => (rate === null ? "–" : rate < 10 ? rate.toFixed(1) : whole.format(rate));
const share = (part, all) => (all ? `${((100 * part) / all).toFixed(1)} %` : "–");

// ---- small pieces of page

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function paint(node, tone, text) {
  const name = `pill ${tone}`.trim();
  if (node.className !== name) node.className = name;
  set(node, text);
}

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// Keeps one node per key, in the order of the keys; what a node shows is the caller's.
function keyed(kept, parent, keys, make) {
  for (const [key, made] of kept) {
    if (!keys.includes(key)) {
      made.node.remove();
      kept.delete(key);
    }
  }
  keys.forEach((key, index) => {
    if (!kept.has(key)) kept.set(key, make(key));
    const node = kept.get(key).node;
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
}

// ---- campaigns

function campaignRow(id) {
  const cells = {};
  const cell = (name, className, tag = "td") => (cells[name] = element(tag, className));
  const name = element("span");
  const detail = element("small");
  const goal = element("span");
  const target = element("small");
  const badge = element("span", "pill");
  const budget = element("span");
  const total = element("small");
  const used = element("span");
  const bar = element("div", "bar", used);
  const button = element("button");
  button.type = "button";
  const conversionRate = element("small");
  const conversions = element("span");
  const node = element("tr", "",
    element("th", "", name, detail), element("td", "", goal, target), element("td", "", badge),
    element("td", "", budget, total, bar), cell("spend", "number"), cell("wins", "number"),
    cell("clicks", "number"), element("td", "number", conversions, conversionRate),
    cell("cpa", "number"), cell("roas", "number"), element("td", "number", button));
  node.firstChild.scope = "row";
  button.addEventListener("click", () => change(id, button.dataset.action, button));
  return { node, cells, name, detail, goal, target, badge, budget, total, used, bar, button, conversions, conversionRate };
}

function showCampaign(row, campaign) {
  const { currency, numbers } = campaign;
  set(row.name, campaign.name);
  set(row.detail, [`#${campaign.campaign_id}`, campaign.policy, counted(campaign.line_item_count, "line item"),
    counted(campaign.creative_count, "creative")].join(" · "));
  const [goal, target] = goalWords(campaign);
  set(row.goal, goal);
  set(row.target, target);
  const isActive = campaign.status === "active";
  paint(row.badge, isActive ? "good" : "warn", isActive ? "Active" : "Paused");
  showBudget(row, campaign);
  set(row.cells.spend, numbers ? money(numbers.spend_micros, currency) : "–");
  set(row.cells.wins, numbers ? whole.format(numbers.wins) : "–");
  set(row.cells.clicks, numbers ? whole.format(numbers.clicks) : "–");
  set(row.conversions, numbers ? whole.format(numbers.conversions) : "–");
  set(row.conversionRate, numbers ? `${share(numbers.conversions, numbers.clicks)} of clicks` : "");
  const goalKind = campaign.goal.kind;
  showAgainstTarget(row.cells.cpa, money(numbers?.cpa_micros, currency),
    goalKind === "target_cpa" && numbers?.cpa_micros ? numbers.cpa_micros / campaign.goal.target_cpa_micros : null);
  showAgainstTarget(row.cells.roas, numbers?.roas ? `${numbers.roas.toFixed(2)}×` : "–",
    goalKind === "target_roas" && numbers?.roas ? campaign.goal.target_roas / numbers.roas : null);
  row.button.dataset.action = isActive ? "pause" : "resume";
  set(row.button, isActive ? "Pause" : "Resume");
  row.button.setAttribute("aria-label", `${isActive ? "Pause" : "Resume"} ${campaign.name}`);
}

function showBudget(row, campaign) {
  const { daily_micros: daily, lifetime_micros: lifetime } = campaign.budget;
  const words = [];
  if (daily) words.push(`${chosen(daily, campaign.currency)} a day`);
  if (lifetime) words.push(`${chosen(lifetime, campaign.currency)} in all`);
  set(row.budget, words[0]);
  set(row.total, words[1] ?? "");
  const used = campaign.numbers?.budget_used ?? 0;
  row.used.style.width = `${Math.min(100, 100 * used)}%`;
  row.bar.classList.toggle("full", used >= 0.995);
  row.bar.title = `${(100 * used).toFixed(1)} % of the tightest budget is spent`;
}

// ratio: how far the cost is above its target (1 = exactly on it), null = no target of this kind
function showAgainstTarget(cell, text, ratio) {
  set(cell, text);
  cell.className = `number ${ratio === null ? "" : ratio <= 1.05 ? "good" : "warn"}`.trim();
}

function showTotals(campaigns, now) {
  const active = campaigns.filter((campaign) => campaign.status === "active");
  const known = campaigns.map((campaign) => campaign.numbers).filter(Boolean);
  const sum = (name) => known.reduce((total, each) => total + each[name], 0);
  const currencies = [...new Set(campaigns.map((campaign) => campaign.currency))];
  set(at("total-active"), whole.format(active.length));
  set(at("total-count"), `of ${campaigns.length}`);
  const has = known.length > 0;
  // Amounts of two currencies are never added up.
  const isOne = has && currencies.length === 1;
  set(at("total-spend"), isOne ? money(sum("spend_micros"), currencies[0]) : has ? "several currencies" : "–");
  const rate = isOne ? perSecond("spend", sum("spend_micros"), now) : null;
  set(at("total-spend-rate"), rate === null ? "" : `${money(rate, currencies[0])} per second`);
  set(at("total-wins"), has ? brief.format(sum("wins")) : "–");
  set(at("total-win-rate"), has ? `${share(sum("wins"), sum("bids"))} of bids` : "");
  set(at("total-conversions"), has ? whole.format(sum("conversions")) : "–");
  set(at("total-clicks"), has ? `${whole.format(sum("clicks"))} clicks` : "");
}

// ---- engine

function workerRow() {
  const badge = element("span", "pill");
  const name = element("span");
  const pid = element("small");
  const cells = Array.from({ length: 8 }, () => element("td", "number"));
  const node = element("tr", "", element("th", "", name, pid), element("td", "", badge), ...cells);
  node.firstChild.scope = "row";
  return { node, badge, name, pid, cells };
}

function showWorker(row, worker, engine, now) {
  set(row.name, `Worker ${worker.index}`);
  set(row.pid, `process ${worker.pid}`);
  const [tone, word] = !worker.is_alive ? ["bad", "Gone"]
    : !worker.is_ready ? ["warn", "Starting"]
    : worker.snapshot_version !== engine.snapshot_version ? ["warn", "Taking over"]
    : ["good", "Ready"];
  paint(row.badge, tone, word);
  const rate = perSecond(`worker ${worker.index}`, worker.request_count, now);
  const cpu = worker.request_count ? `${(worker.cpu_ns / worker.request_count / 1000).toFixed(1)} µs` : "–";
  [whole.format(worker.snapshot_version), whole.format(worker.request_count), rateWords(rate),
    whole.format(worker.bid_count), share(worker.bid_count, worker.request_count), cpu,
    whole.format(worker.malformed_count), whole.format(worker.recorder_behind_count)]
    .forEach((text, index) => set(row.cells[index], text));
  return rate;
}

function partRow(name) {
  const badge = element("span", "pill");
  const node = element("li", "", element("span", "", name), badge);
  return { node, badge };
}

function showEngine(engine, recorderProblem, now) {
  const isInForce = engine.intent_version_in_force === engine.intent_version_published;
  const parts = {
    Recorder: recorderProblem ? ["bad", "No answer"] : engine.recorder_is_ready ? ["good", "Ready"] : ["warn", "Starting"],
    Controller: engine.controller_is_ready ? ["good", "Ready"] : ["warn", "Starting"],
    Snapshot: ["", `version ${engine.snapshot_version}`],
    Intent: isInForce ? ["good", `version ${engine.intent_version_published} in force`]
      : ["warn", `version ${engine.intent_version_in_force} in force, ${engine.intent_version_published} published`],
  };
  keyed(rows.parts, at("parts"), Object.keys(parts), partRow);
  for (const [name, [tone, text]] of Object.entries(parts)) paint(rows.parts.get(name).badge, tone, text);
  keyed(rows.workers, at("workers"), engine.workers.map((worker) => worker.index), workerRow);
  const known = engine.workers.map((worker) => showWorker(rows.workers.get(worker.index), worker, engine, now))
    .filter((rate) => rate !== null);
  const requests = known.length ? known.reduce((total, rate) => total + rate, 0) : null;
  set(at("total-requests"), rateWords(requests));
  if (requests === null) return;
  requestSamples.push(requests);
  if (requestSamples.length > SAMPLES_MAX) requestSamples.shift();
  const top = Math.max(1, ...requestSamples);
  const points = requestSamples.map((each, i) =>
    `${(120 * (SAMPLES_MAX - requestSamples.length + i)) / (SAMPLES_MAX - 1)},${23 - (22 * each) / top}`);
  at("spark").firstElementChild.setAttribute("points", points.join(" "));
}

function show({ at_ms: atMs, campaigns, engine, recorder_problem: recorderProblem }) {
  const now = performance.now();
  const clock = new Date(atMs).toISOString().replace("T", " ").slice(0, 19);
  set(at("clock"), `${clock} UTC${engine.clock_ms ? " (episode)" : ""}`);
  notice(recorderProblem ? `Live numbers are missing: ${recorderProblem}` : "");
  at("empty").hidden = campaigns.length > 0;
  keyed(rows.campaigns, at("campaigns"), campaigns.map((campaign) => campaign.campaign_id), campaignRow);
  for (const campaign of campaigns) showCampaign(rows.campaigns.get(campaign.campaign_id), campaign);
  showTotals(campaigns, now);
  showEngine(engine, recorderProblem, now);
}

takeKeyFromAddress();
window.addEventListener("hashchange", () => { takeKeyFromAddress(); refresh(); });
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, POLL_MS);
refresh();
