"""Reads metrics as Prometheus does."""

import time
import urllib.request
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from tests.support.limits import Deadline, limit

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrape:
    """The values of `/metrics` at one time."""

    def __init__(self, url: str) -> None:
        with urllib.request.urlopen(f"{url}/metrics", timeout=limit(20)) as answer:
            text = answer.read().decode()
        self._samples: Samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        self.text = text

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of all series of a name that have these labels."""
        return sum(value for (named, has), value in self._samples.items() if named == name and labels.items() <= has)


def scraped_until(url: str, is_so: Callable[[Scrape], bool], seconds: float = 10) -> Scrape:
    """Scrape until a condition holds; fail if it never does."""
    deadline = Deadline(seconds)
    while not is_so(scrape := Scrape(url)):
        assert deadline.left > 0, scrape.text
        time.sleep(0.05)
    return scrape
