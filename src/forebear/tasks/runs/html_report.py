"""A run on one page: index.html, that needs nothing but the pictures beside it.

It is written after every epoch, so that it shows a run that is under way as well.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from forebear.files import write_text
from forebear.tasks.runs.formatting import (
    class_title,
    digits,
    duration,
    magnitude,
    nats,
    passes,
    percent,
    whole,
)
from forebear.tasks.runs.read import Run, read_run
from forebear.text import elided

INDEX, BEST = "index.html", "best.safetensors"
_PICTURES = {  # file to what it shows
    "curves.png": "Loss, accuracy and learning rate over the epochs",
    "confusion.png": "True against named classes on the held-out pictures",
    "mistakes.png": "Held-out pictures that the network was furthest from naming rightly",
    "pictures.png": "Training pictures as the network saw them",
}
_KINDS = {"curves.png": "drawing curves", "confusion.png": "drawing"}
_OFF = {"accumulate": 1, "backbone": 1, "ema_every": 1, "repeats": 1, "loss": "ce", "norms": "own"}
_TOLD = ("summary", "source", "network")  # of a recipe: words, which say nothing of the run
# Fields that say nothing unless another one has one of these values, or any that is not off.
_NEEDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "momentum": ("optimizer", ("sgd", "caffe", "muon", "adam", "adamw", "lamb")),
    "beta2": ("optimizer", ("adam", "adamw", "lamb")),
    "eps": ("optimizer", ("adam", "adamw", "lamb")),
    "decay": ("weight_decay", ()),
    "warmup_from": ("warmup", ()),
    "milestones": ("schedule", ("step",)),
    "gamma": ("schedule", ("step",)),
    "final": ("schedule", ("cosine", "triangular", "onecycle")),
    "ema_every": ("ema", ()),
    "growth": ("size_from", ()),
    "shift": ("crop", ("shift",)),
    "border": ("crop", ("shift",)),
    "scale": ("crop", ("resized",)),
    "ratio": ("crop", ("resized",)),
    "operations": ("policy", ("randaugment",)),
    "magnitude": ("policy", ("randaugment",)),
    "magnitude_std": ("policy", ("randaugment",)),
}


def write_index(folder: Path) -> None:
    """Writes the page of a run into its folder, whole or not at all.

    Raises:
        RunError: no run.
        OSError: the page cannot be written.
    """
    write_text(folder / INDEX, page(read_run(folder)))


def page(run: Run) -> str:
    """The HTML of a run; every name in it is escaped."""
    title = f"{run.network} on {run.data}"
    body = [
        _header(run),
        _tiles(run),
        _picture(run, "curves.png"),
        _section("To go on", _commands(run)),
        _section("Network and data", _network_and_data(run)),
        *(_picture(run, name) for name in _PICTURES if name != "curves.png"),
        _section("Recipe", _recipe(run)),
        _section("Machine and versions", _pairs({**run.part("machine"), **run.part("versions")})),
        _epochs(run),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def in_force(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that have a say in the run: none that is off, or that needs one."""
    return {
        name: value
        for name, value in recipe.items()
        if name not in _TOLD and not _is_off(recipe, name) and _is_needed(recipe, name)
    }


def _is_off(recipe: Mapping[str, Any], name: str) -> bool:
    value = recipe[name]
    if name == "seed":
        return False
    return not value or value == "none" or (name in _OFF and value == _OFF[name])


def _is_needed(recipe: Mapping[str, Any], name: str) -> bool:
    other, values = _NEEDS.get(name, ("", ()))
    if other not in recipe:  # of an older run, which had fewer choices
        return True
    return recipe[other] in values if values else not _is_off(recipe, other)


def _header(run: Run) -> str:
    done = run.last("epoch")
    if run.finished:
        state = '<span class="state">finished</span>'
    else:
        told = "nothing measured yet" if math.isnan(done) else f"{_epochs_of(run)} done"
        state = f'<span class="state open">unfinished: {told}</span>'
    started = str(run.settings.get("started", "")).replace("T", " ").replace("+00:00", " UTC")
    begun = f" · begun {_text(started)}" if started else ""
    return (
        f"<header>\n<h1>{_text(run.network)} <small>on {_text(run.data)}</small></h1>\n"
        f"<p>{state}{begun}</p>\n</header>"
    )


def _epochs_of(run: Run) -> str:
    """How far the run is: "1 epoch", or "3 of 15 epochs"."""
    done, planned = run.last("epoch"), run.planned
    of = "" if run.finished or planned is None else f" of {passes(planned)}"
    return f"{passes(done)}{of} {'epoch' if done == 1 and not of else 'epochs'}"


def _tiles(run: Run) -> str:
    """The headline: what came out, and what it took."""
    if not run.epochs:
        return ""
    count = run.part("data").get("held_out")
    of = f"of {count:,} held-out pictures right" if isinstance(count, int) else "held out, right"
    tiles = [(percent(run.last("val_accuracy")), of)]
    if run.tested is not None:
        accuracy, images = run.tested
        tiles.insert(0, (percent(accuracy), f"of {images:,} test pictures right, seen once"))
    best = run.best
    if best is not None and best != len(run.epochs) - 1:
        at = passes(run.column("epoch")[best])
        tiles.append((percent(run.column("val_accuracy")[best]), f"at best, after epoch {at}"))
    tiles.append((nats(run.last("val_loss")), "held-out loss, nats"))
    tiles.append((duration(run.last("seconds")), f"for {_epochs_of(run)}"))
    tiles.append((whole(run.last("images_per_second")), "images/s in training"))
    if run.parameters is not None:
        tiles.append((magnitude(run.parameters), "parameters"))
    skipped = run.last("skipped")
    if skipped > 0:
        tiles.append((whole(skipped), "steps skipped: their gradient was not finite"))
    cells = (f"<div><b>{value}</b><span>{_text(what)}</span></div>" for value, what in tiles)
    return f'<section class="tiles">\n{_lines(cells)}\n</section>'


def _commands(run: Run) -> str:
    path = shlex.quote(str(run.path))
    words = [("go on with the run", f"forebear train --resume {path}")]
    if run.finished:
        data = shlex.quote(run.data)
        words = [
            ("name what is in pictures", f"forebear predict {path} PICTURE ..."),
            ("measure it on other pictures", f"forebear evaluate {path} --data {data}"),
            ("beside other runs", f"forebear compare {path} RUN ..."),
        ]
    if (run.path / BEST).is_file():
        path = shlex.quote(str(run.path / BEST))
        words.append(("with the weights that did best", f"forebear predict {path} PICTURE ..."))
    return _lines(
        f"<p>{_text(what)}</p><pre>{_text(command, most=2000)}</pre>" for what, command in words
    )


def _network_and_data(run: Run) -> str:
    data = run.part("data")
    classes = [str(name) for name in data.get("classes", ())]
    told: dict[str, Any] = {"network": run.network}
    if run.parameters is not None:
        told["parameters"] = f"{run.parameters:,}"
    told["source of the network's table"] = run.part("table").get("source", "")
    told["data"] = run.data
    for key, name in (("train", "training pictures"), ("held_out", "held-out pictures")):
        if isinstance(data.get(key), int):
            told[name] = f"{data[key]:,}"
    told["split"] = data.get("split", "")
    if classes:
        more = f" and {len(classes) - 30:,} more" if len(classes) > 30 else ""
        told[f"{len(classes):,} classes"] = (
            ", ".join(class_title(name, 40) for name in classes[:30]) + more
        )
    told["fingerprint of pictures and split"] = str(data.get("fingerprint", ""))[:16]
    return _pairs({name: value for name, value in told.items() if value}, most=2000, wide=True)


def _recipe(run: Run) -> str:
    recipe = run.part("recipe")
    words = [str(recipe[name]) for name in ("summary", "source") if recipe.get(name)]
    told = f"<p>{_text('. '.join(words), most=500)}</p>\n" if words else ""
    return told + _pairs(in_force(recipe))


def _picture(run: Run, name: str) -> str:
    if not (run.path / name).is_file():
        return ""
    kind, told = _KINDS.get(name, "photographs"), _text(_PICTURES[name])
    return (
        '<figure>\n<div class="scroll">'
        f'<a href="{name}"><img class="{kind}" src="{name}" alt="{told}"></a></div>\n'
        f"<figcaption>{told}</figcaption>\n</figure>"
    )


_COLUMNS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "epoch": ("epoch", passes),
    "step": ("step", whole),
    "lr": ("rate", digits),
    "loss": ("loss", nats),
    "accuracy": ("accuracy", percent),
    "val_loss": ("held-out loss", nats),
    "val_accuracy": ("held-out accuracy", percent),
    "images_per_second": ("images/s", whole),
    "seconds": ("time", duration),
    "memory": ("MiB", whole),
    "skipped": ("skipped", whole),
}


def _epochs(run: Run) -> str:
    """A row an epoch, the newest first and the best one marked."""
    if not run.epochs:
        return ""
    columns = {name: run.column(name) for name in _COLUMNS}
    there = [name for name, column in columns.items() if not all(map(math.isnan, column))]
    if not any(value > 0 for value in columns["skipped"]):
        there = [name for name in there if name != "skipped"]
    head = "".join(f"<th>{_COLUMNS[name][0]}</th>" for name in there)
    rows = []
    for at in reversed(range(len(run.epochs))):
        cells = "".join(f"<td>{_COLUMNS[name][1](columns[name][at])}</td>" for name in there)
        mark = ' class="best"' if at == run.best else ""
        rows.append(f"<tr{mark}>{cells}</tr>")
    unfolded = " open" if len(rows) <= 20 else ""
    return (
        f"<details{unfolded}>\n<summary>Epochs, the newest first</summary>\n"
        f'<div class="scroll"><table>\n<tr>{head}</tr>\n{_lines(rows)}\n</table></div>\n</details>'
    )


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{_text(title)}</h2>\n{body}\n</section>" if body else ""


def _pairs(values: Mapping[str, Any], *, most: int = 300, wide: bool = False) -> str:
    if not values:
        return ""
    rows = (
        f"<div><dt>{_text(name)}</dt><dd>{_text(_say(value), most=most)}</dd></div>"
        for name, value in values.items()
    )
    kind = ' class="wide"' if wide else ""
    return f"<dl{kind}>\n{_lines(rows)}\n</dl>"


def _say(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return digits(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_say, value))
    return str(value)


def _text(text: str, *, most: int = 200) -> str:
    return escape(elided(text, most))


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)


_STYLE = """
:root { --ink: #1c1f24; --soft: #5c636e; --paper: #fff; --panel: #f4f5f7; --line: #dfe2e7;
  --accent: #1f5fa8; --warn: #9a5b00 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa2ad; --paper: #14161a;
  --panel: #1e2126; --line: #33383f; --accent: #7db4f0; --warn: #f0b357 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere }
h1 small { font-size: 1rem; font-weight: 400; color: var(--soft) }
h2, summary { font-size: 1.1rem; font-weight: 600; margin: 2.25rem 0 .6rem }
summary { cursor: pointer }
header p { margin: .35rem 0 1.25rem; color: var(--soft) }
.state { color: var(--accent); font-weight: 600 }
.state.open { color: var(--warn) }
.tiles { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)) }
.tiles div { background: var(--panel); border-radius: .5rem; padding: .7rem .9rem }
.tiles b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums }
.tiles div:first-child b { color: var(--accent) }
.tiles span { display: block; color: var(--soft); font-size: .85rem; line-height: 1.3 }
figure { margin: 2rem 0 0 }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; border-radius: .5rem }
img.curves { min-width: 42rem }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .4rem; text-align: center }
dl { margin: 0; display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)) }
dl.wide { grid-template-columns: 1fr }
dl div { display: flex; gap: .75rem; justify-content: space-between; padding: .3rem 0;
  border-bottom: 1px solid var(--line) }
dt { color: var(--soft); flex: none; max-width: 55% }
dd { margin: 0; text-align: right; min-width: 0; overflow-wrap: anywhere }
section p { margin: .5rem 0 .2rem; color: var(--soft); font-size: .9rem }
pre { margin: 0; padding: .55rem .8rem; background: var(--panel); border-radius: .4rem;
  white-space: pre; overflow-x: auto; font-size: .88rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  white-space: nowrap }
th { color: var(--soft); font-weight: 600 }
.best td { color: var(--accent); font-weight: 600 }
@media (prefers-color-scheme: dark) { img { filter: brightness(.9) }
  img.drawing { filter: invert(.92) hue-rotate(180deg) } }
"""
