"""How the bench shows its figures."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.benchmarks.report import Results, goals, plot, table, write_docs
from scripts.benchmarks.targets import LAUNCHER, PLAIN, TARGETS

FIGURES = ("json_cpu", "sse_cpu", "gapped_cpu", "added_latency", "memory", "idle_client")


@pytest.fixture
def results() -> Results:
    made = Results("some machine", [each.name for each in TARGETS])
    for number, each in enumerate(TARGETS):
        for figure in FIGURES:
            for value in (1.0, 100.0, 2.0):
                made.add(each.name, figure, value / 1000 / (1 + number))
    made.held = (2000, 2000, 0)
    return made


def test_results_are_medians_of_the_rounds(results: Results) -> None:
    assert results.median(PLAIN.name, "json_cpu") == 0.002
    assert results.ratio(LAUNCHER.name, "json_cpu") == pytest.approx(1 / 3)
    rows = [line.split("|") for line in table(results).splitlines()]
    assert [row[1].strip() for row in rows[2:]] == results.names
    assert [float(row[2]) for row in rows[2:]] == [2.0, 1.0, 0.67, 0.5]


def test_targets_are_marked_met_or_missed(results: Results) -> None:
    assert goals(results).count("| met |") == 5
    results.figures[LAUNCHER.name]["sse_cpu"] = [0.00101]
    results.figures[LAUNCHER.name]["idle_client"] = [40_000.0]
    results.held = (2000, 1999, 0)
    said = goals(results).splitlines()
    assert [line.rpartition("| ")[2] for line in said[2:]] == ["met |", "missed |", "met |", "missed |", "missed |"]


def test_the_plot_has_a_bar_for_each_figure_and_contender(results: Results) -> None:
    root = ElementTree.fromstring(plot(results))  # our own
    bars = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("width") != "12"]
    assert len(bars) == 3 * len(TARGETS)
    widths = [float(bar.get("width") or 0) for bar in bars[:4]]
    assert widths == pytest.approx([widths[0], widths[0] / 2, widths[0] / 3, widths[0] / 4], abs=0.1)


def test_write_docs_replaces_only_the_text_between_the_figure_markers(results: Results, tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(
        "before\n<!-- figures: written by scripts/bench --write-docs -->\nold \\1\n<!-- end of figures -->\nafter\n"
    )
    for _ in range(2):
        write_docs(results, tmp_path)
    text = page.read_text()
    assert text.startswith("before\n<!-- figures")
    assert text.endswith("<!-- end of figures -->\nafter\n")
    assert "old" not in text
    assert text.count(table(results)) == 1
    assert "Medians of 3 rounds, on some machine." in text
    assert (tmp_path / "performance.svg").read_text() == plot(results)
