"""Formats the figures of `scripts/bench`: a table, a plot, a page."""

import os
import platform
import re
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from scripts.benchmarks.targets import LAUNCHER, PLAIN

_COLUMNS = {
    "json_cpu": ("CPU, JSON chat, ms", 1e3, 2),
    "sse_cpu": ("CPU, SSE of 64 events, ms", 1e3, 2),
    "gapped_cpu": ("CPU, event at 20 ms gaps, µs", 1e6, 1),
    "added_latency": ("added to the first token, ms", 1e3, 2),
    "memory": ("memory, MB", 1e-6, 0),
    "idle_client": ("an idle client, KB", 1e-3, 1),
}
"""The columns: heading, unit and digits of each figure."""

_COMPARED = {"json_cpu": "JSON chat", "sse_cpu": "SSE of 64 events", "gapped_cpu": "event at 20 ms gaps"}
_MOST = 0.5
_IDLE_CLIENT_LIMIT = 40_000.0
_BEGIN, _END = "<!-- figures: written by scripts/bench --write-docs -->", "<!-- end of figures -->"


@dataclass
class Results:
    """The measurements.

    Attributes:
        machine: Description of the machine.
        names: The targets.
        figures: The rounds' values of each figure of each target, in seconds or bytes.
        held: Streams held at once: requested, complete, and wrongly signed in a sample. None if not measured.
    """

    machine: str
    names: list[str]
    figures: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    held: tuple[int, int, int] | None = None

    def add(self, name: str, figure: str, value: float) -> None:
        """Add a value."""
        self.figures[name][figure].append(value)

    def median(self, name: str, figure: str) -> float:
        """The median over the rounds."""
        return statistics.median(self.figures[name][figure])

    def ratio(self, name: str, figure: str) -> float:
        """A target's median relative to plain mitmdump's."""
        return self.median(name, figure) / self.median(PLAIN.name, figure)

    def as_json(self) -> dict[str, Any]:
        """All measurements."""
        return {"machine": self.machine, "figures": self.figures, "held": self.held}


def machine() -> str:
    """A description of this machine, in one line."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    loop = f", uvloop {metadata.version('uvloop')}" if _has("uvloop") else ""
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"mitmproxy {metadata.version('mitmproxy')}{loop}"
    )


def _has(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def table(results: Results) -> str:
    """The medians, as a Markdown table."""
    headings = ["proxy", *(heading for heading, _, _ in _COLUMNS.values())]
    rows = ["| " + " | ".join(headings) + " |", "| --- " * len(headings) + "|"]
    for name in results.names:
        cells = [f"{results.median(name, figure) * unit:.{digits}f}" for figure, (_, unit, digits) in _COLUMNS.items()]
        rows.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(rows)


def goals(results: Results) -> str:
    """The goals for `tee-signer`, and whether it meets them, as a Markdown table."""
    rows = ["| target | measured | |", "| --- | --- | --- |"]

    def row(target: str, measured: str, *, met: bool) -> None:
        rows.append(f"| {target} | {measured} | {'met' if met else 'missed'} |")

    if {PLAIN.name, LAUNCHER.name} <= set(results.names):
        for figure, what in _COMPARED.items():
            ratio = results.ratio(LAUNCHER.name, figure)
            row(f"{what}: at most half the CPU of plain mitmdump", f"{ratio:.2f}", met=ratio <= _MOST)
    if LAUNCHER.name in results.names:
        idle = results.median(LAUNCHER.name, "idle_client")
        row("an idle client: below 40 KB", f"{idle / 1e3:.1f} KB", met=idle < _IDLE_CLIENT_LIMIT)
    if results.held is not None:
        asked, whole, wrong = results.held
        row(
            f"{asked:,} streams at once on one worker, without an error",
            f"{whole:,} whole, {wrong} of a sample wrongly signed",
            met=(whole, wrong) == (asked, 0),
        )
    return "\n".join(rows)


def write_docs(results: Results, directory: Path) -> None:
    """Put the figures into performance.md, between their marks, and draw performance.svg."""
    page = directory / "performance.md"
    text = page.read_text()
    spread = f"Medians of {len(results.figures[PLAIN.name]['json_cpu'])} rounds, on {results.machine}."
    figures = "\n\n".join([_BEGIN, spread, table(results), goals(results), _END])
    page.write_text(re.sub(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", lambda _: figures, text, flags=re.DOTALL))
    (directory / "performance.svg").write_text(plot(results))


def plot(results: Results) -> str:
    """Bars of CPU relative to plain mitmdump's, as SVG for light and dark pages."""
    width, left, bar, gap = 720, 190, 18, 26
    scale = (width - left - 60) / max(1.0, *(results.ratio(n, f) for n in results.names for f in _COMPARED))
    parts, y = [], 40
    for figure, what in _COMPARED.items():
        _, unit, digits = _COLUMNS[figure]
        parts.append(f'<text x="8" y="{y + 14}" class="what">{what}</text>')
        for number, name in enumerate(results.names):
            ratio = results.ratio(name, figure)
            value = f"{results.median(name, figure) * unit:.{digits}f} {'µs' if unit > 1e5 else 'ms'}"
            parts.append(
                f'<rect x="{left}" y="{y}" width="{ratio * scale:.1f}" height="{bar - 4}" class="c{number}"/>'
                f'<text x="{left + ratio * scale + 6:.1f}" y="{y + 11}">{value}</text>'
            )
            y += bar
        y += gap
    for share, label in ((1 / 3, "a third"), (1 / 2, "half")):
        x = left + share * scale
        parts.append(f'<line x1="{x:.1f}" y1="30" x2="{x:.1f}" y2="{y - gap + 6}"/>')
        parts.append(f'<text x="{x:.1f}" y="24" text-anchor="middle">{label}</text>')
    for number, name in enumerate(results.names):
        parts.append(f'<rect x="{left}" y="{y}" width="12" height="12" class="c{number}"/>')
        parts.append(f'<text x="{left + 18}" y="{y + 11}">{name}</text>')
        y += bar
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 10}" role="img">
<title>CPU relative to plain mitmdump; less is better</title>
<style>
text {{ font: 12px sans-serif; fill: #24292f }} .what {{ font-weight: 600 }}
line {{ stroke: #8c959f; stroke-dasharray: 4 3 }}
.c0 {{ fill: #8c959f }} .c1 {{ fill: #54aeff }} .c2 {{ fill: #0969da }} .c3 {{ fill: #0a3069 }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3 }} .c1 {{ fill: #388bfd }} .c2 {{ fill: #79c0ff }} .c3 {{ fill: #cae8ff }}
}}
</style>
{body}
</svg>
"""
