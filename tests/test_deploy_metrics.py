"""What the dashboard shows and the alerts watch is what the proxy tells: no query is for a metric that is not there."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deploy_metrics import alert_rules, metric_families, metrics
from tests.support.limits import limit
from tests.support.tools import PROMTOOL, needs

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "tee-signer.json"
PROMETHEUS = ROOT / "deploy" / "prometheus" / "prometheus.yaml"


OF_PROMETHEUS = {"up": {"job"}}
"""What Prometheus adds for each target, and to each metric the label `instance`."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_WORD = re.compile(r"(?<![\w:.])[a-zA-Z_:][a-zA-Z0-9_:]*")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_MATCHERS = re.compile(r"\{([^}]*)\}")
_NO_METRICS = {"and", "or", "unless", "offset", "bool", "inf", "nan"}
with_promtool = needs(PROMTOOL)


def queries() -> list[str]:
    """All of the dashboard's and of the alerts', as Prometheus gets them."""
    alerts = [rule["expr"] for rule in alert_rules()]
    shown = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]
    variables = [one["definition"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]
    values = [re.fullmatch(r"label_values\((.*), \w+\)", definition) for definition in variables]
    assert all(values)
    return [*alerts, *map(filled_in, shown), *(match[1] for match in values if match)]


def filled_in(query: str) -> str:
    """A query of Grafana's with its variables replaced, as Grafana does."""
    return query.replace("$__rate_interval", "1m").replace("$instance", ".*")


def metrics_in(query: str) -> set[str]:
    """The metrics that a query is for: the words in it that are nothing else."""
    bare = re.sub(r"\[[^]]*\]", "", _MATCHERS.sub("", _GROUPING.sub(" ", _STRING.sub('""', query))))
    words = ((match[0], bare[match.end() :].lstrip()[:1]) for match in _WORD.finditer(bare))
    return {word for word, following in words if following != "(" and word not in _NO_METRICS}


def labels_in(query: str) -> set[str]:
    """The labels that a query selects or groups by."""
    bare = _STRING.sub('""', query)
    named = [*_GROUPING.findall(bare), *_MATCHERS.findall(bare)]
    return {word for text in named for word in _WORD.findall(text)}


def family(name: str) -> str:
    """The family of a metric: histograms have three of them."""
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    return base if base in metric_families() else name


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


@pytest.mark.parametrize("query", queries())
def test_queries_use_only_existing_metrics_and_labels(query: str) -> None:
    families = {family(name) for name in metrics_in(query)}
    assert families
    assert families <= metric_families() | set(OF_PROMETHEUS)
    known = {"instance", "le"}.union(*((metrics() | OF_PROMETHEUS)[name] for name in families))
    assert labels_in(query) <= known


def test_every_metric_is_used_by_a_query() -> None:
    shown = {family(name) for query in queries() for name in metrics_in(query)}
    assert metric_families() - shown == set()


def test_alert_reasons_occur_in_the_source() -> None:
    source = "".join(path.read_text() for path in (ROOT / "addons").rglob("*.py"))
    matched = re.findall(r'reason[=!~]+"([^"]+)"', " ".join(rule["expr"] for rule in alert_rules()))
    assert matched
    assert all(f'"{reason}"' in source for alternatives in matched for reason in alternatives.split("|"))


def test_query_parser_finds_the_metrics_and_labels() -> None:
    query = 'histogram_quantile(0.9, sum by (le, a) (rate(x_bucket{b=~"y and z"}[5m] offset 1d))) > 4 * on (c) up'
    assert metrics_in(query) == {"x_bucket", "up"}
    assert labels_in(query) == {"le", "a", "b", "c"}


def test_dashboard_panels_have_descriptions_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = set()
    for panel in panels:
        assert panel["type"] == "row" or panel["description"]
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert x < 24
                assert (x, y) not in places
                places.add((x, y))


def test_alerts_have_a_severity_a_summary_and_a_runbook() -> None:
    for rule in alert_rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        assert len(rule["annotations"]["runbook"]) > 80, rule["alert"]


@with_promtool
def test_prometheus_configuration_is_valid() -> None:
    promtool("check", "config", str(PROMETHEUS))


@with_promtool
def test_dashboard_queries_are_valid_promql(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))


@with_promtool
def test_each_alert_fires_when_it_should_and_none_in_normal_operation() -> None:
    scenarios = ROOT / "tests" / "alerts.yaml"
    bad = yaml.safe_load(scenarios.read_text())["tests"][0]["promql_expr_test"][0]
    fired = {re.sub(r".*alertname=\"(\w+)\".*", r"\1", sample["labels"]) for sample in bad["exp_samples"]}
    assert fired == {rule["alert"] for rule in alert_rules()}
    promtool("test", "rules", str(scenarios))


def promtool(*arguments: str) -> str:
    run = subprocess.run(
        [PROMTOOL.require(), *arguments], capture_output=True, text=True, timeout=limit(30), check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
