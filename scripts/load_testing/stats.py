"""The counts and times of `scripts/loadtest`, and their output as a table or JSON."""

import json
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from attest_web.printable import printable
from attest_web.signatures import SIGNING_ALGOS, SigningAlgo
from scripts.load_testing.chat import Chat, UntrueError

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

_STEP = math.log(1.01)
_LEAST = 1e-6


class Durations:
    """Times, kept to within 1 % in some 2,000 numbers, however many there are."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.longest = 0.0
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Add one."""
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        self._buckets[round(math.log(max(seconds, _LEAST)) / _STEP)] += 1

    def quantile(self, share: float) -> float | None:
        """The quantile of this share of all times; None without any."""
        left = math.ceil(share * self.count)
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(math.exp(bucket * _STEP), self.longest)
        return None

    def figures(self) -> dict[str, float]:
        """Their statistics, by name; empty without any."""
        if not self.count:
            return {}
        quantiles = {name: self.quantile(share) or 0.0 for name, share in QUANTILES.items()}
        return {"mean": self.total / self.count} | quantiles | {"max": self.longest}


@dataclass
class Stats:
    """Statistics of the chats so far.

    Attributes:
        answered: Chats with a response and valid signatures.
        untrue: Chats with a response, but with a missing or invalid signature.
        failures: Number of failures by kind.
        samples: The message of the first failure of each kind.
        signers: The signers' addresses, by algorithm.
        under_way: Chats in progress.
        tokens: Events with a token.
    """

    started: float = field(default_factory=time.perf_counter)
    ended: float | None = None
    answered: int = 0
    untrue: int = 0
    under_way: int = 0
    tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    samples: dict[str, str] = field(default_factory=dict)
    signers: dict[SigningAlgo, str] = field(default_factory=dict)
    first_token: Durations = field(default_factory=Durations)
    between_tokens: Durations = field(default_factory=Durations)
    answers: Durations = field(default_factory=Durations)
    signatures: Durations = field(default_factory=Durations)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return max((self.ended or time.perf_counter()) - self.started, _LEAST)

    @property
    def holds(self) -> bool:
        """Whether there were responses, one for every request, all with valid signatures."""
        return self.answered > 0 and not self.failures

    def count(self, chat: Chat) -> None:
        """Count a chat; it is a failure if another key has signed it than the earlier ones."""
        for algo in SIGNING_ALGOS:
            if self.signers.setdefault(algo, chat.addresses[algo]) != chat.addresses[algo]:
                detail = f"{chat.addresses[algo]} and {self.signers[algo]}"
                self.count_untrue(UntrueError(f"{algo} signatures by two keys", detail))
                return
        self.answered += 1
        self.answers.add(chat.took)
        self.signatures.add(chat.signatures_took)
        self.tokens += len(chat.tokens)
        if chat.tokens:
            self.first_token.add(chat.tokens[0])
        for earlier, later in pairwise(chat.tokens):
            self.between_tokens.add(later - earlier)

    def count_untrue(self, error: UntrueError) -> None:
        """Count a response with a signature that is missing or does not verify."""
        self.untrue += 1
        self.failures[error.kind] += 1
        self.samples.setdefault(error.kind, printable(error.detail))

    def count_failed(self, kind: str) -> None:
        """Count a request without a response that could be signed."""
        self.failures[printable(kind)] += 1

    def as_json(self, **about: Any) -> str:
        """All statistics on one line, with times in seconds, after further facts about the run."""
        times = {
            "to_first_token": self.first_token.figures(),
            "between_tokens": self.between_tokens.figures(),
            "to_last_byte": self.answers.figures(),
            "to_signatures": self.signatures.figures(),
        }
        result = {
            "ok": self.holds,
            "seconds": self.seconds,
            "true_answers": self.answered,
            "untrue_answers": self.untrue,
            "failed_requests": self.failures.total() - self.untrue,
            "errors": dict(self.failures.most_common()),
            "samples": self.samples,
            "answers_per_second": self.answered / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
            "signing_addresses": self.signers,
            "times": times,
        }
        return json.dumps(about | result)

    def as_text(self) -> str:
        """All statistics as text."""
        rows = {
            "time to first token": self.first_token,
            "time between tokens": self.between_tokens,
            "time to last byte": self.answers,
            "time to both signatures, from there": self.signatures,
        }
        names = ["mean", *QUANTILES, "max"]
        lines = [f"{'milliseconds':36}" + "".join(f"{name:>10}" for name in names)] if self.answered else []
        for title, durations in rows.items():
            if figures := durations.figures():
                lines.append(f"{title:36}" + "".join(f"{figures[name] * 1000:10.2f}" for name in names))
        tokens = f", {self.tokens / self.seconds:.0f} tokens/s" if self.tokens else ""
        rate = self.answered / self.seconds
        lines += [f"{self.answered} answers in {self.seconds:.1f} s: {rate:.1f} answers/s{tokens}"]
        lines += [f"signed by {address} ({algo})" for algo, address in self.signers.items()]
        for kind, count in self.failures.most_common():
            sample = f", e.g. {self.samples[kind]}" if kind in self.samples else ""
            lines.append(f"failed: {count} times {kind}{sample}")
        if any("status 429" in said for said in (*self.failures, *self.samples.values())):
            lines.append(
                "429 is the rate limit, by client address: see RATE_LIMIT_PER_SECOND and RATE_LIMIT_BURST_SIZE"
            )
        verdict = "every answer had both signatures, and they are true"
        if self.untrue:
            verdict = f"NOT TRUE: {self.untrue} answers had a signature missing or untrue"
        elif not self.answered:
            verdict = "NOTHING SHOWN: there was no answer"
        return "\n".join([*lines, verdict])
