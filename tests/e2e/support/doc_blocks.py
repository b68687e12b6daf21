"""The commands on a page of `docs/`, which tests run as a reader would."""

import re
from pathlib import Path

from tests.e2e.support.processes import ROOT


class Page:
    """A page and its blocks of code."""

    def __init__(self, name: str) -> None:
        self.text = (ROOT / "docs" / name).read_text()

    def blocks(self, language: str) -> list[str]:
        """All blocks of a language, in order."""
        return re.findall(rf"^```{language}\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)

    def block(self, language: str, beginning: str) -> str:
        """The only block with this beginning."""
        [found] = [text for text in self.blocks(language) if text.startswith(beginning)]
        return found

    def links(self) -> list[Path]:
        """The files to which the page links."""
        targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", self.text)
        return [(ROOT / "docs" / target).resolve() for target in targets if "://" not in target]


def with_replaced(text: str, *replacements: tuple[str, str]) -> str:
    """A command with a reader's values replaced by a test's. Each value must occur in it."""
    for written, meant in replacements:
        assert written in text, written
        text = text.replace(written, meant)
    return text
