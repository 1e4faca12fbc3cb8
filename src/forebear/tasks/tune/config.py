"""What the caller of a search asks for: the flags of forebear tune are read off it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from forebear.files import expanded
from forebear.settings import check, setting
from forebear.tasks.train.recipe_files import read_recipe
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.tune.space import Dimension, parse_searches

HOLD_OUT = 0.2  # fraction of the training images
_FLAGS = ("batch", "lr", "size", "resize", "mirror", "balance")  # of TrainConfig, and of the recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """What the caller of a search asks for.

    Raises:
        ValueError: a field is out of its range, or a search does not fit the recipe.
    """

    train: TrainConfig  # of the first trial; the others differ in the searched fields
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
        default_text="learning rate, weight decay and label smoothing around the recipe's",
        flag="--search FIELD=VALUES",
    )
    trials: int | None = setting(
        None,
        help="end after this many trials, the unchanged recipe included",
        least=1,
        default_text="as many as there is time for",
    )
    seed: int = setting(0, help="seed of the search and of every trial", least=0)

    def __post_init__(self) -> None:
        """Refuses values out of range, and fields that are both set and searched."""
        if isinstance(self.out, str):  # a path given as text is a path
            object.__setattr__(self, "out", expanded(self.out))
        check(self)
        for name in ("budget", "fold", "patience"):
            value = getattr(self.train, name)
            if value is not None:
                raise ValueError(
                    f"{name}={value} with a search: its trials are compared after the same number "
                    f"of epochs on the same images. Expected none. Leave {name} out."
                )
        fixed = {word.partition("=")[0].strip() for word in self.train.sets}
        fixed |= {name for name in _FLAGS if getattr(self.train, name) is not None}
        both = sorted(fixed & {one.field for one in self.space})
        if both:
            raise ValueError(
                f"{both[0]}: both set and searched. Expected one of the two. Leave one out."
            )
        self._check_recipes()

    @property
    def space(self) -> tuple[Dimension, ...]:
        """What was asked for; empty: the default space."""
        return parse_searches(self.search)

    @property
    def first(self) -> TrainConfig:
        """The first trial, which holds a part of the training images out."""
        hold_out = HOLD_OUT if self.train.hold_out is None else self.train.hold_out
        return replace(self.train, hold_out=hold_out, seed=self.seed, replace=True, started=None)

    def _check_recipes(self) -> None:
        """Refuses values that the recipe refuses as a whole, such as batch=1.

        Raises:
            ValueError: One of the ends of a range, or a choice.
        """
        name = self.train.recipe or "default"
        read_recipe(name, self.train.sets)  # a mistake in it is no mistake of the search
        for one in self.space:
            for word in one.extremes:
                try:
                    read_recipe(name, (*self.train.sets, f"{one.field}={word}"))
                except ValueError as error:
                    raise ValueError(f"--search {one.text}: {error}") from error
