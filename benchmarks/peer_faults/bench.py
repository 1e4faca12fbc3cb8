"""What a scenario is given, and what it answers."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peer_faults import worlds
from peer_faults.children import Child, Ended, Limits
from peer_faults.peers import Peer, Training

FAITHFUL, PARTLY, FAILS = "as specified", "partly", "fails"
NO_FEATURE, NOT_RUN = "no such feature", "not run"


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant of a case; `good` is None where it does not apply to the peer."""

    name: str
    good: bool | None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a scenario found."""

    remark: str
    variants: Sequence[Variant] = ()
    word: str = ""  # in place of a verdict: no such feature, not run

    @property
    def verdict(self) -> str:
        """As specified if every variant is, fails if none is."""
        if self.word:
            return self.word
        judged = [one.good for one in self.variants if one.good is not None]
        if not judged:
            return NO_FEATURE
        return FAITHFUL if all(judged) else PARTLY if any(judged) else FAILS

    def as_json(self) -> dict[str, Any]:
        judged = [one for one in self.variants if one.good is not None]
        return {
            "verdict": self.verdict,
            "good": sum(bool(one.good) for one in judged),
            "of": len(judged),
            "remark": self.remark,
            "variants": [[one.name, one.good, one.remark] for one in self.variants],
        }


@dataclass(slots=True)
class Bench:
    """A peer with a data set, and runs of it in children."""

    peer: Peer
    place: Path
    numbers: Any = field(default_factory=itertools.count)
    data: Path = field(init=False)
    whole: dict[int, str] = field(init=False, default_factory=dict)
    first_loss: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.data = worlds.folder(self.place / "data", self.peer.val)

    def fresh(self, name: str = "out") -> Path:
        """A path that nothing is at."""
        return self.place / f"{name}{next(self.numbers)}"

    def training(self, **changes: Any) -> Training:
        return Training(**({"data": self.data, "out": self.fresh()} | changes))

    def start(self, training: Training, limits: Limits | None = None) -> Child:
        return Child(self.peer.train(training), self.fresh("log"), limits or Limits())

    def go(self, training: Training, limits: Limits | None = None, seconds: float = 60) -> Ended:
        return self.start(training, limits).wait(seconds)

    def reference(self, epochs: int = 2) -> str:
        """The fingerprint of a run that nothing happened to; the same twice, or it raises."""
        if epochs not in self.whole:
            found = []
            for _ in range(2):
                training = self.training(epochs=epochs)
                ended = self.go(training)
                found.append(self.peer.fingerprint(self.peer.final(training.out)))
                if ended.code or not found[-1]:
                    raise RuntimeError(ended.log)
            if found[0] != found[1]:
                raise RuntimeError(f"{self.peer.name}: two whole runs give other bits")
            self.whole[epochs] = str(found[0])
            self.first_loss = self.peer.steps(ended.log)[0].loss
        return self.whole[epochs]

    def saved(self, epochs: int = 2) -> Path:
        """The output folder of a whole run, copied for each caller."""
        kept = self.place / f"saved-{epochs}"
        if not kept.exists():
            ended = self.go(self.training(out=kept, epochs=epochs))
            if ended.code:
                raise RuntimeError(ended.log)
        copy = self.fresh("copy")
        shutil.copytree(kept, copy)
        return copy

    def resume(self, out: Path, **changes: Any) -> Ended:
        """Resumes from the newest checkpoint, as the peer documents it."""
        found = self.peer.checkpoints(out)
        return self.go(self.training(out=out, resume=found[0] if found else None, **changes))

    def starts_anew(self, ended: Ended) -> bool:
        """Whether a resumed run has the first loss of a run that nothing precedes."""
        self.reference()
        steps = self.peer.steps(ended.log)
        return bool(steps) and steps[0].epoch == 0 and steps[0].loss == self.first_loss

    def step_of(self, child: Child) -> int:
        """How many steps a running child has done."""
        return len(self.peer.steps(child.text()))

    def killed(self, training: Training, step: int, then: Callable[[Child], None]) -> Ended:
        """Does something to a run once it has done `step` steps, and waits for its end."""
        child = self.start(training)
        child.until(lambda: self.step_of(child) >= step)
        then(child)
        return child.wait(60)


def said(ended: Ended, pattern: str) -> str:
    """The first line of a log that matches, progress lines left out; "" if none does."""
    for line in ended.log.splitlines():
        if re.search(pattern, line, re.I) and not re.match(
            r"Train: |Epoch: |step |Namespace|Created SGD", line
        ):
            return line.strip()[:200]
    return ""


def traceback_free(ended: Ended) -> bool:
    return "Traceback (most recent call last)" not in ended.log
