// The operations page. It polls the snapshot every two seconds while the page is visible.

import {plot, rateNow, remember} from "./plot.js";

const POLL = 2_000;         // milliseconds between a response and the next request
const TIMEOUT = 15_000;     // milliseconds until a request times out
const LATE = 10;            // seconds after which a lag is an alarm

const root = document.getElementById("operations");
const byId = (id) => document.getElementById(id);

// Figures -------------------------------------------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const plural = (count, one, many) => `${whole.format(count)} ${count === 1 ? one : many}`;

function duration(seconds) {
    if (seconds < 10) return `${seconds.toFixed(1)} s`;
    if (seconds < 120) return `${Math.floor(seconds)} s`;
    if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
    return `${Math.floor(seconds / 86_400)} days`;
}

const ago = (seconds) => (seconds < 1 ? "just now" : `${duration(seconds)} ago`);

// Writes only changes, because screen readers announce every write to a live region.
function write(element, text) {
    if (element.textContent !== text) element.textContent = text;
}

function alarm(element, is) {
    element.toggleAttribute("data-alarm", is);
}

function figure(id, text, alarming = false) {
    write(byId(id), text);
    alarm(byId(id).parentElement, alarming);
}

// The snapshot --------------------------------------------------------------------------------------------------------

function service(name, state, good) {
    write(byId(`service-${name}`).querySelector("b"), state);
    byId(`service-${name}`).dataset.good = good ? "yes" : "no";
}

function showServices({log, live, database, index}) {
    service("state", log ? "up" : "down", log);
    service("database", database ? "up" : "down", database);
    service("search", index ? "up" : "down", index);
    service("workers", !log ? "unknown" : log.workers ? "up" : "down", log?.workers);
    service("live", !live ? "unknown" : live.processes ? "up" : "down", live?.processes);
}

function showLive(live) {
    figure("live-streams", live ? whole.format(live.streams) : "unknown");
    write(byId("live-backlog"), !live ? "Unknown while the state Redis is down."
        : `${plural(live.processes, "process", "processes")}, which hold ${(live.bytes / 2 ** 20).toFixed(1)} MB of events.`);
}

function showWrites(log, history) {
    remember([...history, ...(log ? [log.totals] : [])]);
    for (const [which, name] of ["acknowledged", "stored"].entries()) {
        const value = log ? rateNow(which) : null;
        write(byId(name), value === null ? "unknown" : whole.format(value));
    }
    plot(byId("plot"));
}

function showLag(id, amount, seconds, late) {
    figure(id, amount === null ? "unknown" : whole.format(amount));
    const note = byId(late);
    const isLate = seconds > LATE;
    write(note, amount === null ? "" : !amount ? "Nothing is waiting."
        : `The oldest has waited for ${duration(seconds)}${isLate ? ", which is late" : ""}.`);
    note.classList.add("ops-note");
    alarm(note, isLate);
}

function level(events) {
    return events >= 10_000 ? "3" : events >= 100 ? "2" : events > 0 ? "1" : "0";
}

const firstOf = (all) => `${all.slice(0, 5).join(", ")}${all.length > 5 ? ", …" : "."}`;

function showPartitions(log) {
    const summary = byId("partition-summary");
    if (!log) return write(summary, "Unknown while the state Redis is down.");
    [...byId("partition-grid").children].forEach((cell, partition) => {
        const events = log.waiting[partition] ?? 0;
        const flags = ["halted", "superseded"].filter((flag) => log[flag].includes(partition));
        cell.dataset.level = flags[0] ?? level(events);
        cell.title = [`Partition ${partition}: ${plural(events, "event waiting", "events waiting")}`, ...flags].join(", ");
    });
    const fullest = Object.entries(log.waiting).sort((a, b) => b[1] - a[1]);
    const holding = !fullest.length ? "All are empty."
        : `${fullest.length} of 64 ${fullest.length === 1 ? "holds" : "hold"} events: `
        + firstOf(fullest.map(([partition, events]) => `${partition} (${whole.format(events)})`));
    const halted = !log.halted.length ? "None is halted."
        : `${log.halted.length} halted, because the database is older than the log: ${firstOf(log.halted)} See docs/runbook.md.`;
    // In the words of readiness.
    const superseded = !log.superseded.length ? ""
        : ` ${log.superseded.length} ${summary.dataset.superseded}: ${firstOf(log.superseded)} See docs/runbook.md.`;
    write(summary, `${holding} ${halted}${superseded}`);
    alarm(summary, log.halted.length > 0 || log.superseded.length > 0);
    summary.classList.add("ops-note");
    byId("partition-grid").setAttribute("aria-label", `64 partitions. ${holding} ${halted}${superseded}`);
}

function showIndex(index) {
    figure("index-documents", index ? whole.format(index.documents) : "unknown");
    write(byId("index-state"), !index ? "The index is down."
        : `${index.name ?? "There is no index yet"}: ${index.complete ? "complete" : "being filled"}`
        + `${index.building ? `; ${index.building} is being built` : ""}. Updated every 10 s.`);
}

function showReconcile(reconcile) {
    figure("reconcile-drifts", reconcile ? whole.format(reconcile.drifts) : "unknown", reconcile?.drifts > 0);
    write(byId("reconcile-age"), !reconcile ? "Not checked yet."
        : `Checked ${ago(reconcile.seconds)}. ${reconcile.drift_seconds === null ? "No drift has been found."
            : `Drift was last found ${ago(reconcile.drift_seconds)}.`}`);
}

// Jobs ----------------------------------------------------------------------------------------------------------------

const OUTCOMES = {
    waiting: () => "Waiting for a worker.",
    running: () => "Running.",
    done: (run) => `Done: ${run.outcome}`,
    failed: (run) => `Failed: ${run.outcome}`,
    lost: () => "No heartbeat for a minute: its worker was killed, or none was free. Start it again.",
};

function showJobs(jobs) {
    for (const row of root.querySelectorAll("[data-job]")) {
        const run = jobs?.[row.dataset.job];
        if (!run) continue;
        const active = run.status === "waiting" || run.status === "running";
        const when = new Date(1_000 * (run.ended_at ?? run.began_at)).toLocaleString("en", {dateStyle: "medium", timeStyle: "short"});
        const outcome = row.querySelector(".ops-outcome");
        write(outcome, `${OUTCOMES[run.status](run)} (${run.by}, ${when})`);
        alarm(outcome, run.status === "failed" || run.status === "lost");
        const [bar, amount] = row.querySelector(".ops-progress").children;
        bar.parentElement.hidden = run.status !== "running";
        bar.max = Math.max(run.total ?? 1, 1);
        if (run.total === null) bar.removeAttribute("value");
        else bar.value = run.done;
        write(amount, run.total === null ? whole.format(run.done) : `${whole.format(run.done)} of ${whole.format(run.total)}`);
        row.querySelector("button").setAttribute("aria-disabled", active);
    }
}

root.addEventListener("submit", (event) => {
    if (event.target.querySelector("[aria-disabled='true']")) event.preventDefault();
});

// The connection ------------------------------------------------------------------------------------------------------

let lastResponse = null;        // when the last response came
let timer = null;
let polling = false;

function showConnection(text, stale) {
    write(byId("connection"), text);
    root.toggleAttribute("data-stale", stale);
}

async function poll() {
    clearTimeout(timer);
    if (polling) return;
    polling = true;
    try {
        const response = await fetch(root.dataset.snapshot, {signal: AbortSignal.timeout(TIMEOUT)});
        if (response.status === 403) return showConnection("You are logged out, or no longer staff. Reload the page to log in.", true);
        if (!response.ok) throw new Error(`status ${response.status}`);
        const snapshot = await response.json();
        if (document.hidden) return;
        lastResponse = Date.now();
        showServices(snapshot);
        showWrites(snapshot.log, snapshot.history);
        showLag("log-events", snapshot.log && Object.values(snapshot.log.waiting).reduce((a, b) => a + b, 0), snapshot.log?.seconds, "log-age");
        showLag("outbox-entries", snapshot.database && snapshot.database.outbox_entries, snapshot.database?.outbox_seconds, "outbox-age");
        figure("dead-events", snapshot.database ? whole.format(snapshot.database.dead) : "unknown", snapshot.database?.dead > 0);
        showLive(snapshot.live);
        showPartitions(snapshot.log);
        showIndex(snapshot.index);
        showReconcile(snapshot.reconcile);
        showJobs(snapshot.jobs);
        showConnection("Live.", false);
    } catch {
        showConnection("The server does not answer. These are the last figures.", true);
    } finally {
        polling = false;
        if (!document.hidden) timer = setTimeout(poll, POLL);
    }
}

function showAge() {
    if (lastResponse !== null) write(byId("age"), `Figures are ${Math.round((Date.now() - lastResponse) / 1_000)} s old.`);
}

document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return poll();
    clearTimeout(timer);
    showConnection("Paused while the page is hidden.", true);
});
new ResizeObserver(() => plot(byId("plot"))).observe(byId("plot"));
setInterval(showAge, 1_000);
poll();
