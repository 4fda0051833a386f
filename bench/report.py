"""Writes the results of a run: a table, a plot, a JSON file, and the machine's data."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.rounds import Measure
from bench.stack import Stack
from tests.support.services import elasticsearch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("Django", "djangorestframework", "celery", "gunicorn", "redis", "mysqlclient", "django-elasticsearch-dsl")


def machine(stack: Stack) -> dict[str, str]:
    """Returns everything outside the code that a figure depends on."""
    processor = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    memory = Path("/proc/meminfo").read_text().split()[1]
    ((database,),) = stack.server.execute("SELECT VERSION()")
    return {
        "processor": f"{processor.partition(':')[2].strip()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{int(memory) / 2**20:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "database": database,
        "redis": stack.product.state.info("server")["redis_version"],
        "elasticsearch": elasticsearch.VERSION,
        "load generator": _output("wrk", "-v").split("[")[0].strip() + ", 1 thread",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "texts": stack.texts.name,
        "commit": _output("git", "describe", "--always", "--dirty").strip(),
    }


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, cwd=RESULTS.parent).stdout


def table(measures: list[Measure]) -> str:
    """Returns a Markdown table. The figures are the medians of the rounds."""
    lines = ["| | measure | ours | reference | value | bound |", "|---|---|---:|---:|---:|---:|"]
    for measure in measures:
        ours = statistics.median(r.ours for r in measure.rounds)
        theirs = [r.theirs for r in measure.rounds if r.theirs is not None]
        beside = f"{measure.reference}: {_figure(statistics.median(theirs))} {measure.unit}" if theirs else ""
        low, high = min(measure.values), max(measure.values)
        lines.append(
            f"| {'✓' if measure.reached else '✗'} | {measure.name} | {_figure(ours)} {measure.unit} | {beside} "
            f"| **{_figure(measure.median)}** ({_figure(low)}–{_figure(high)}) "
            f"| {'≥' if measure.at_least else '≤'} {measure.bound:g} |"
        )
    return "\n".join(lines)


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def write(name: str, measures: list[Measure], found: dict[str, str]) -> Path:
    """Writes NAME.json, NAME.md and NAME.svg. Returns the path of the page."""
    RESULTS.mkdir(exist_ok=True)
    page, plot, data = (RESULTS / f"{name}.{kind}" for kind in ("md", "svg", "json"))
    entries = [
        {
            "name": measure.name,
            "unit": measure.unit,
            "bound": measure.bound,
            "at_least": measure.at_least,
            "reference": measure.reference,
            "rounds": [{"ours": r.ours, "theirs": r.theirs, "value": r.value} for r in measure.rounds],
            "median": measure.median,
            "reached": measure.reached,
        }
        for measure in measures
    ]
    data.write_text(json.dumps({"machine": found, "measures": entries}, indent=2, ensure_ascii=False) + "\n")
    facts = "\n".join(f"- {fact}: {value}" for fact, value in found.items())
    page.write_text(
        f"# {name}\n\nHow to read this: [benchmarks](../../docs/benchmarks.md).\n\n"
        f"{table(measures)}\n\n![each round against its bound]({plot.name})\n\n{facts}\n"
    )
    _plot([measure for measure in measures if measure.bound], plot)
    return page


def _plot(measures: list[Measure], path: Path) -> None:
    """Plots each round as a dot: how many times as good as its bound. Dots left of the line miss it."""
    # Makes plots of the same figures identical.
    mpl.rcParams["svg.hashsalt"] = "chatsystem"
    figure = Figure(figsize=(9, 1 + 0.4 * len(measures)), layout="constrained")
    axes = figure.subplots()
    for row, measure in enumerate(measures):
        margins = [v / measure.bound if measure.at_least else measure.bound / v for v in measure.values]
        axes.plot(margins, [row] * len(margins), "o", color="tab:green" if measure.reached else "tab:red", alpha=0.6)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    ticks = [0.25, 0.5, 1, 2, 4, 8, 16]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(measures)), [measure.name for measure in measures])
    axes.invert_yaxis()
    axes.set_xlabel("times as good as the bound, each round a dot")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
