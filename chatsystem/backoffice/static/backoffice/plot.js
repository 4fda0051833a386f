// Rates and their plot. The server sends totals. A rate is the difference of two totals, so it is exact at any interval.

const SPAN = 300;           // seconds that the plot shows
const STEP = 3;             // seconds that each point averages
const NOW = 4;              // seconds that the figures above the plot average

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const short = new Intl.NumberFormat("en", {notation: "compact", maximumFractionDigits: 1});

let samples = [];           // [acknowledged, stored, at], oldest first

export function remember(found) {
    const known = new Map([...samples, ...found].map((sample) => [sample[2], sample]));
    const ordered = [...known.values()].sort((a, b) => a[2] - b[2]);
    // A total that decreases comes from another Redis, and cannot be compared with earlier ones.
    const restart = ordered.findLastIndex((sample, i) => i > 0 && sample[0] < ordered[i - 1][0]);
    samples = ordered.slice(Math.max(restart, 0)).filter((sample) => sample[2] > ordered.at(-1)[2] - SPAN - STEP);
}

function totalAt(which, at) {
    const next = samples.findIndex((sample) => sample[2] >= at);
    if (next === -1) return null;
    if (samples[next][2] === at) return samples[next][which];
    if (next === 0) return null;
    const [before, after] = [samples[next - 1], samples[next]];
    return before[which] + (after[which] - before[which]) * (at - before[2]) / (after[2] - before[2]);
}

function rate(which, from, to) {
    const [before, after] = [totalAt(which, from), totalAt(which, to)];
    return before === null || after === null ? null : Math.max(after - before, 0) / (to - from);
}

// Returns the average of the last seconds, or null while it is unknown.
export function rateNow(which) {
    if (samples.length < 2) return null;
    const now = samples.at(-1)[2];
    return rate(which, Math.max(now - NOW, samples[0][2]), now);
}

// The plot ------------------------------------------------------------------------------------------------------------

const MARGIN = {left: 44, right: 4, top: 8, bottom: 20};

function drawn(name, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
}

// The next of 1, 2, 5, 10, 20 …
function roundedUp(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 5, 10].map((factor) => factor * power).find((round) => round >= value);
}

function series(which, now) {
    const points = [];
    for (let to = now; to > now - SPAN; to -= STEP) {
        const value = rate(which, to - STEP, to);
        if (value !== null) points.unshift([to, value]);
    }
    return points;
}

export function plot(svg) {
    const [width, height] = [svg.clientWidth, svg.clientHeight];
    if (!samples.length || !width) return;
    const now = samples.at(-1)[2];
    const lines = {acknowledged: series(0, now), stored: series(1, now)};
    const highest = Math.max(0, ...Object.values(lines).flat().map(([, value]) => value));
    const top = roundedUp(Math.max(highest, 10));
    const x = (at) => MARGIN.left + (1 - (now - at) / SPAN) * (width - MARGIN.left - MARGIN.right);
    const y = (value) => height - MARGIN.bottom - value / top * (height - MARGIN.top - MARGIN.bottom);
    const parts = [];
    for (const value of [0, top / 2, top]) {
        parts.push(drawn("line", {class: "ops-grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value)}));
        parts.push(drawn("text", {x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end"}, short.format(value)));
    }
    for (let minutes = 1; minutes < SPAN / 60; minutes++) {
        parts.push(drawn("text", {x: x(now - 60 * minutes), y: height - 4, "text-anchor": "middle"}, `−${minutes} min`));
    }
    parts.push(drawn("text", {x: width - MARGIN.right, y: height - 4, "text-anchor": "end"}, "now"));
    for (const [name, points] of Object.entries(lines)) {
        if (points.length < 2) continue;
        const path = points.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join("L");
        if (name === "acknowledged") {
            const base = y(0).toFixed(1);
            const area = `M${x(points[0][0]).toFixed(1)},${base}L${path}L${x(now).toFixed(1)},${base}Z`;
            parts.push(drawn("path", {class: "ops-area", d: area}));
        }
        parts.push(drawn("path", {class: `ops-line ops-line-${name}`, d: `M${path}`}));
    }
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-label",
        `Acknowledged and stored writes per second in the last five minutes. The highest was ${whole.format(highest)}.`);
    svg.replaceChildren(...parts);
}
