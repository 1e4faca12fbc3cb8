"""What the caller of a training run asks for: the flags of forebear train are read off it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forebear.data.choices import Bad
from forebear.data.fold import Fold
from forebear.data.sources.read_options import ReadOptions
from forebear.files import expanded
from forebear.limits import IMAGE_CHANNELS, INPUT_SIDE
from forebear.settings import check, override, setting, settings
from forebear.tasks.runs.choosing import Metric
from forebear.tasks.runs.tracking.names import parse_trackers
from forebear.tasks.train.machine_config import MachineConfig
from forebear.tasks.train.recipe import Recipe

AUTO = "auto"  # the recipe that is chosen by measurement

_RECIPE = settings(Recipe)
_READ = settings(ReadOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(MachineConfig):
    """What the caller asks for; None leaves the choice to the recipe, the data or the machine.

    Raises:
        ValueError: a field is out of its range, a tracker is unknown, a budget is combined with
            epochs or deterministic, a fold with hold_out, or the recipe auto comes without
            weights.
    """

    data: str = setting(help="the dataset, such as folder:PATH", flag="--data KIND:PATH")
    images: Path | None = override(_READ["images"])
    image_column: str | None = override(_READ["image_column"])
    label_column: str | None = override(_READ["label_column"])
    multi_label: bool | None = override(_READ["multi_label"])
    label_columns: str | None = override(_READ["label_columns"])
    label_separator: str | None = override(_READ["label_separator"])
    group_by: str | None = override(_READ["group_by"])
    network: str | None = setting(
        None,
        help="a name from forebear list, or a .toml or .json table file",
        default_text="the recipe's, else the checkpoint's, else paper/resnet20 up to 48 pixels, "
        "torchvision/resnet18 above",
    )
    dialect: str | None = setting(None, help="dialect (only for a table file)")
    out: Path | None = setting(
        None, help="new run folder", default_text="one in runs/", flag="--out FOLDER"
    )
    replace: bool = setting(False, help="delete an existing run in the run folder")

    recipe: str | None = setting(
        None,
        help="a name from forebear recipes, or a .toml file; auto: fine-tuning, chosen by "
        "measurement on the training images",
        default_text="chosen for the data",
    )
    sets: tuple[str, ...] = setting(
        (),
        help="override a field of the recipe (forebear recipes fields lists them)",
        flag="--set FIELD=VALUE",
    )
    budget: float | None = setting(
        None,
        help="time limit of the run including evaluation, instead of epochs",
        unit="seconds",
        above=0,
        flag="--budget TIME",
    )
    epochs: int | None = override(
        _RECIPE["epochs"],
        help="passes over the training set; the recipe's schedule is scaled to them",
        least=1,
        default_text="the recipe's",
    )
    batch: int | None = override(_RECIPE["batch"], default_text="the recipe's")
    lr: float | None = override(_RECIPE["lr"], default_text="the recipe's")
    size: int | tuple[int, int] | None = override(
        _RECIPE["size"],
        help="input size: the side of a square or HEIGHTxWIDTH, as in 224x448",
        default_text="the recipe's, else the checkpoint's, else that of the images, up to 224",
    )
    resize: str | None = override(_RECIPE["resize"], default_text="the recipe's")
    mirror: bool | None = override(
        _RECIPE["mirror"],
        help="random horizontal flips",
        default_text="the recipe's, which may depend on the data",
    )
    balance: str | None = override(_RECIPE["balance"], default_text="the recipe's")
    seed: int | None = override(_RECIPE["seed"], default_text="the recipe's")

    weights: Path | None = setting(
        None, help="initialise the network from a checkpoint", flag="--weights FILE"
    )
    partial: bool = setting(
        False,
        help="keep the random initialisation of layers that are missing from the checkpoint, such "
        "as the classifier for other classes",
        needs=("weights",),
    )
    hold_out: float | None = setting(
        None,
        help="fraction of the training set to use for validation (model selection); the dataset's "
        "own validation set then serves as test set, evaluated once at the end",
        above=0,
        below=1,
        flag="--hold-out FRACTION",
    )
    fold: str | None = setting(
        None, help="the fold of a cross-validation that validates, such as 2/5"
    )
    metric: Metric = setting(
        "auto",
        help="metric of the validation set that chooses best.safetensors",
        default_text="top-1 accuracy, or mAP of multi-label images",
    )
    patience: int | None = setting(
        None,
        help="end the training after this many evaluations in a row without a better metric; the "
        "learning-rate schedule stays that of the whole run",
        unit="evaluations",
        least=1,
        flag="--patience N",
    )
    unknown: float = setting(
        0.05,
        help="fraction of the validation images that may be called unknown: forebear predict "
        "--unknown calls images so whose probability is below the threshold that this gives",
        above=0,
        below=1,
        flag="--unknown FRACTION",
    )
    sample_range: str = setting(
        "full",
        help="sample values of 16-bit arrays and of 16-bit and 32-bit greyscale images that become "
        "0 and 255: full, auto (those that the training images use) or LOW:HIGH",
        flag="--sample-range RANGE",
    )
    channels: int | None = setting(
        None,
        help="channels of the image files, such as 4 for .npy arrays [H, W, 4] and for RGBA, which "
        "is then not blended with white; 1 turns colour images grey",
        default_text="3; of arrays, as many as they have",
        least=1,
        most=IMAGE_CHANNELS,
    )
    bad: Bad = setting(
        "fail", help="images that cannot be decoded: stop with an error, or skip them"
    )

    def __post_init__(self) -> None:
        """Refuses values out of range, and what would have to be ignored."""
        for name in ("out", "weights", "images"):
            value = getattr(self, name)
            if isinstance(value, str):  # a path given as text is a path
                object.__setattr__(self, name, expanded(value))
            elif value is not None and not isinstance(value, Path):
                raise TypeError(
                    f"{name}={value!r}: expected a path, as text or a pathlib.Path. Pass one."
                )
        check(self)
        _check_shape(self.size)
        parse_trackers(self.track)
        self.reading  # noqa: B018 - refuses empty names
        _refuse_combinations(self)

    @property
    def reading(self) -> ReadOptions:
        """How the data set is read."""
        return ReadOptions(**{name: getattr(self, name) for name in _READ})


def _refuse_combinations(config: TrainConfig) -> None:
    """Refuses values of which one would have to be ignored.

    Raises:
        ValueError: There are such values.
    """
    if config.fold is not None:
        Fold.parse(config.fold)
        if config.hold_out is not None:
            raise ValueError(
                f"hold_out={config.hold_out:g} and folds: each fold is the validation set of one "
                "run. Expected one of them. Leave one out."
            )
    if config.recipe == AUTO and config.weights is None:
        raise ValueError(
            f"recipe={AUTO} without weights: it chooses how to fine-tune a trained network. "
            "Expected a checkpoint. Pass --weights FILE, or leave out --recipe."
        )
    if config.budget is None:
        return
    if config.epochs is not None:
        raise ValueError(
            f"budget={config.budget:g} seconds and epochs={config.epochs}: either ends a run. "
            "Expected one of them. Leave one out."
        )
    if config.deterministic:
        raise ValueError(
            f"budget={config.budget:g} seconds and deterministic: a run that the clock ends "
            "takes other steps each time. Expected one of them. Pass epochs, or do without "
            "the same bits."
        )


def _check_shape(size: object) -> None:
    """Refuses a height or a width out of range."""
    if isinstance(size, tuple):
        sides = (isinstance(side, int) and 1 <= side <= INPUT_SIDE for side in size)
        if len(size) != 2 or not all(sides):
            raise ValueError(
                f"size={size!r}: expected height and width, each from 1 to {INPUT_SIDE:,} pixels. "
                "Pass two such numbers, or one for a square."
            )
