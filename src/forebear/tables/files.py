"""Tables from outside: TOML and JSON files, plain dicts, and the lists of the Keras recipe."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from forebear.errors import TableError, near_misses
from forebear.tables.dialects import Dialect
from forebear.tables.preprocessing import Preprocessing
from forebear.tables.registry import find, find_dialect
from forebear.tables.rows import Average, Block, Conv, Dropout, Norm, Pool, Table

KINDS: dict[str, type] = {
    "conv": Conv,
    "pool": Pool,
    "norm": Norm,
    "average": Average,
    "dropout": Dropout,
}


def resolve(network: str | Path | Table, dialect: str | Dialect | None) -> tuple[Table, Dialect]:
    """The table and the dialect that a caller means.

    Raises:
        ValueError: an unknown name, or a table without a dialect.
        TableError: a file that holds no table.
    """
    spoken = find_dialect(dialect) if isinstance(dialect, str) else dialect
    if isinstance(network, Path) or str(network).endswith((".toml", ".json")):
        network = read_table(Path(str(network)))
    if isinstance(network, Table):
        if spoken is None:
            raise ValueError(
                f"dialect=None: the table {network.name!r} is your own and can be built in many "
                'ways. Expected a dialect. Pass one, as in dialect="torchvision".'
            )
        return network, spoken
    if not isinstance(network, str):
        raise TypeError(
            f"network of type {type(network).__name__}: expected a name, a path or a Table."
        )
    entry = find(network)
    return entry.table, spoken or entry.dialect


def read_table(path: Path) -> Table:
    """The table in a .toml or .json file.

    Raises:
        TableError: no such file, or no table in it; the message names the row.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(
            f"{path}: cannot be read ({error}). Expected a .toml or .json file with a table."
        ) from error
    try:
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise TableError(
            f"{path}: no {kind} ({error}). Expected a table of blocks. Correct the file."
        ) from error
    try:
        return table_from_dict(data)
    except TableError as error:
        raise TableError(f"{path}: {error}") from error


def table_from_dict(data: Mapping[str, Any]) -> Table:
    """The table that `table_to_dict` gave, or that a file spells out.

    Raises:
        TableError: an unknown key, a missing one, or a value out of range.
    """
    if not isinstance(data, Mapping):
        raise TableError(f"{type(data).__name__} in place of a table. Expected keys and values.")
    values = dict(data)
    for key in ("root", "layers"):
        if key in values:
            values[key] = tuple(_row(row, key) for row in _list(values[key], key))
    if "blocks" in values:
        rows = _list(values["blocks"], "blocks")
        values["blocks"] = tuple(_make(Block, _with_convs(row), "blocks") for row in rows)
    values.setdefault("root", ())
    table: Table = _make(Table, values, "the table")
    return table


def table_to_dict(table: Table) -> dict[str, Any]:
    """A table as plain data: what a JSON or TOML file of it holds, without an empty source."""
    data = asdict(table)
    kinds = {kind: name for name, kind in KINDS.items()}
    for key in ("root", "layers"):
        rows = getattr(table, key)
        data[key] = [{"kind": kinds[type(row)], **asdict(row)} for row in rows]
    data["blocks"] = [asdict(block) for block in table.blocks]
    for key in ("layers", "blocks", "source"):
        if not data[key]:
            del data[key]
    return data


def preprocessing_from_dict(data: Mapping[str, Any]) -> Preprocessing:
    """The record whose plain data these are.

    Raises:
        TypeError, KeyError: other keys than a record has.
    """
    return Preprocessing(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})


def dialect_from_dict(data: Mapping[str, Any]) -> Dialect:
    """The record whose plain data these are.

    Raises:
        TypeError, KeyError: other keys than a record has.
    """
    return Dialect(**{**data, "preprocessing": preprocessing_from_dict(data["preprocessing"])})


def _list(value: Any, key: str) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TableError(f"{key}={value!r}: expected a list of rows.")
    return value


def _row(row: Any, key: str) -> Any:
    kind = row.get("kind") if isinstance(row, Mapping) else None
    if kind not in KINDS:
        raise TableError(f"a row of {key}: kind={kind!r}. Expected one of {', '.join(KINDS)}.")
    return _make(KINDS[kind], {k: v for k, v in row.items() if k != "kind"}, key)


def _with_convs(row: Any) -> Any:
    if not isinstance(row, Mapping) or "convs" not in row:
        return row
    try:
        return {**row, "convs": tuple((channels, kernel) for channels, kernel in row["convs"])}
    except (TypeError, ValueError) as error:
        raise TableError(
            f"row {row.get('name')!r}: convs={row['convs']!r}. Expected pairs [channels, kernel]."
        ) from error


def _make(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise TableError(f"a row of {where}: {values!r}. Expected keys and values.")
    known = {field.name: field for field in fields(kind)}
    name = values.get("name", where)
    for key in values:
        if key not in known:
            raise TableError(
                f"row {name}: the key {key!r} is unknown. Expected {', '.join(known)}."
                f"{near_misses(str(key), known)}"
            )
    for key, field in known.items():
        if key not in values and field.default is MISSING:
            raise TableError(f"row {name}: the key {key!r} is missing. Add it.")
    return kind(**values)


def table_from_lists(
    lists: Sequence[Sequence[Any]],
    *,
    name: str = "lists",
    shortcuts: bool = True,
    classes: int = 10,
) -> Table:
    """The table of the Keras recipe's lists, [[units, [[filters, (kernel, kernel)], ...]], ...].

    The root is a 7x7 convolution of 64 channels and stride 2 with a 3x3 pool; every block but the
    first halves the map. Build it with dialect="keras-lists"; whether a unit projects follows from
    its shapes, so that bottlenecks in the first block build too.

    Args:
        lists: a pair a block: its units, and each convolution's filters and kernel.
        name: of the table.
        shortcuts: False leaves out every addition, as the published recipe did by mistake.
        classes: of the logits.

    Raises:
        TableError: a list of another form; the message names the block.
    """
    blocks = []
    for number, pair in enumerate(lists, start=1):
        row = f"block{number}"
        try:
            units, convs = pair
            spelled = tuple((int(filters), int(height)) for filters, (height, _) in convs)
            square = all(height == width for _, (height, width) in convs)
        except (TypeError, ValueError) as error:
            raise TableError(
                f"row {row}: {pair!r}. Expected [units, [[filters, (kernel, kernel)], ...]]."
            ) from error
        if not spelled or not square:
            raise TableError(f"row {row}: {convs!r}. Expected square kernels, at least one.")
        width = next((filters for filters, kernel in spelled if kernel > 1), spelled[0][0])
        stride = 1 if number == 1 else 2
        blocks.append(Block(row, units, width, spelled[-1][0], stride, convs=spelled))
    root = (Conv("conv1", 64, 7, stride=2), Pool("pool1"))
    return Table(
        name, root, blocks=tuple(blocks), shortcuts=shortcuts, classes=classes, image_size=32
    )
