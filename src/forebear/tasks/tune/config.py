"""What the caller of a search asks for: the flags of forebear tune are read off it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forebear.settings import check, setting
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.tune.space import Dimension, parse_searches


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """What the caller of a search asks for.

    Raises:
        ValueError: A field is out of its range, or a search does not fit the recipe.
    """

    train: TrainConfig  # the first trial; the others differ in the searched fields
    out: Path = setting(help="folder of the search", flag="--out FOLDER")
    time: float = setting(
        help="time limit of the search: 90s, 20m, 1h30m",
        unit="seconds",
        above=0,
        flag="--time TIME",
    )
    search: tuple[str, ...] = setting(
        (),
        help="a field of the recipe and its values: lr=0.01..0.3:log, mirror=random,none",
        default_text="learning rate, weight decay and label smoothing around the recipe",
        flag="--search FIELD=VALUES",
    )
    trials: int | None = setting(
        None,
        help="end after this many trials",
        least=1,
        default_text="as many as there is time for",
    )
    seed: int = setting(0, help="seed of the search and of every trial", least=0)

    def __post_init__(self) -> None:
        """Refuses values out of range, and fields that are both fixed and searched."""
        check(self)
        if self.train.budget is not None:
            raise ValueError(
                f"budget={self.train.budget:g} with a search: its trials are compared after the "
                "same number of epochs. Expected epochs. Leave budget out."
            )
        fixed = {word.partition("=")[0].strip() for word in self.train.sets}
        fixed |= {name for name in _FLAGS if getattr(self.train, name) is not None}
        both = sorted(fixed & {one.field for one in self.space})
        if both:
            raise ValueError(
                f"{both[0]}: both set and searched. Expected one of the two. Leave one out."
            )

    @property
    def space(self) -> tuple[Dimension, ...]:
        """The dimensions that were asked for; none: the default ones."""
        return parse_searches(self.search)


_FLAGS = ("batch", "lr", "size", "mirror", "balance")  # of TrainConfig: fields of the recipe
