"""Tables from TOML and JSON files, from plain dicts, and from the lists of the Keras recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from forebear.errors import TableError, near_misses
from forebear.limits import TABLE_UNITS
from forebear.tables.checks import check_keys, shown
from forebear.tables.dialects import Dialect
from forebear.tables.preprocessing import Preprocessing
from forebear.tables.rows import Average, Block, Conv, Dropout, Norm, Pool, Table
from forebear.text import truncated
from forebear.untrusted import parse_json, parse_toml, read_text

KINDS: dict[str, type] = {
    "conv": Conv,
    "pool": Pool,
    "norm": Norm,
    "average": Average,
    "dropout": Dropout,
}


def resolve(network: str | Path | Table, dialect: str | Dialect | None) -> tuple[Table, Dialect]:
    """Returns the table and the dialect for a network name, a file or a table.

    Raises:
        ValueError: A name is unknown, or a table of the user's own comes without a dialect.
        TypeError: `network` is not a name, a path or a table.
        TableError: The file cannot be read or does not contain a valid table.
    """
    from forebear.tables.registry import find, find_dialect  # it makes all tables: 5 ms

    chosen = find_dialect(dialect) if isinstance(dialect, str) else dialect
    if isinstance(network, Path) or str(network).endswith((".toml", ".json")):
        network = read_table(Path(str(network)))
    if isinstance(network, Table):
        if chosen is None:
            raise ValueError(
                f"dialect=None: the table {network.name!r} is your own and has no default dialect. "
                "Expected a dialect: a name that `forebear dialects` prints, or a Dialect. "
                'Pass one, as in dialect="torchvision".'
            )
        return network, chosen
    if not isinstance(network, str):
        raise TypeError(
            f"network of type {type(network).__name__}: expected a name, a path or a Table. "
            'Pass one of these, as in "torchvision/resnet50".'
        )
    entry = find(network)
    return entry.table, chosen or entry.dialect


def read_table(path: Path) -> Table:
    """Reads a table from a .toml or .json file.

    Raises:
        TableError: The file cannot be read or does not contain a valid table. The message names
            the row.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise TableError(
            f"{truncated(path)}: the file cannot be read ({said}). Expected a .toml or .json file "
            "in UTF-8 that holds a table. Check the path."
        ) from error
    kind = "JSON" if path.suffix == ".json" else "TOML"
    try:
        data = parse_json(text) if kind == "JSON" else parse_toml(text)
    except ValueError as error:
        raise TableError(
            f"{truncated(path)}: this is not valid {kind} ({truncated(error)}). Expected a table "
            "with the keys name, root, and blocks or layers. Correct the file."
        ) from error
    try:
        return table_from_dict(data)
    except TableError as error:
        raise TableError(f"{truncated(path)}: {error}") from error


def table_from_dict(data: Mapping[str, Any]) -> Table:
    """Returns the table described by plain data from a file or from `table_to_dict`.

    Raises:
        TableError: A key is unknown or missing, or a value is out of range.
    """
    if not isinstance(data, Mapping):
        raise TableError(
            f"{type(data).__name__} instead of a table: expected a mapping with the keys name, "
            "root, and blocks or layers. Correct the file."
        )
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
    """Returns a table as plain data for a JSON or TOML file. Empty fields are omitted."""
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


def preprocessing_from_dict(data: object) -> Preprocessing:
    """Returns the preprocessing record described by plain data.

    Raises:
        ValueError: The data are not a mapping, a key is unknown or missing, or a value is not
            possible. The message names the key.
    """
    values = check_keys(Preprocessing, data, "preprocessing")
    for name in ("mean", "std", "levels"):
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    return Preprocessing(**values)


def preprocessing_to_dict(rule: Preprocessing) -> dict[str, Any]:
    """Returns a preprocessing record as plain data.

    A square input has no width of its own, so that older versions of forebear can read it.
    """
    data = asdict(rule)
    if rule.width is None:
        del data["width"]
    return data


def dialect_to_dict(dialect: Dialect) -> dict[str, Any]:
    """Returns a dialect record as plain data."""
    return asdict(dialect) | {"preprocessing": preprocessing_to_dict(dialect.preprocessing)}


def dialect_from_dict(data: object) -> Dialect:
    """Returns the dialect record described by plain data.

    Raises:
        ValueError: As in `preprocessing_from_dict`.
    """
    values = check_keys(Dialect, data, "dialect")
    values["preprocessing"] = preprocessing_from_dict(values["preprocessing"])
    return Dialect(**values)


def _list(value: Any, key: str) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TableError(f"{key}={shown(value)}: expected a list of rows. Correct the table.")
    if len(value) > TABLE_UNITS:
        raise TableError(
            f"{key}: it has {len(value):,} rows. Expected at most {TABLE_UNITS:,}. Correct the "
            "table."
        )
    return value


def _row(row: Any, key: str) -> Any:
    kind = row.get("kind") if isinstance(row, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise TableError(
            f"a row of {key}: kind={shown(kind)}. Expected one of {', '.join(KINDS)}. "
            "Set the kind to one of these."
        )
    return _make(KINDS[kind], {k: v for k, v in row.items() if k != "kind"}, key)


def _with_convs(row: Any) -> Any:
    if not isinstance(row, Mapping) or "convs" not in row:
        return row
    try:
        return {**row, "convs": tuple((channels, kernel) for channels, kernel in row["convs"])}
    except (TypeError, ValueError) as error:
        raise TableError(
            f"row {shown(row.get('name'))}: convs={shown(row['convs'])}. Expected a list of pairs "
            "[channels, kernel]. Correct this row in the table."
        ) from error


def _make(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise TableError(
            f"a row of {where}: {shown(values)}. Expected a mapping, as in "
            '{"name": "block1", ...}. Correct this row in the table.'
        )
    known = {field.name: field for field in fields(kind)}
    name = truncated(values.get("name", where))
    for key in values:
        if key not in known:
            raise TableError(
                f"row {name}: the key {shown(key)} is unknown. Expected one of "
                f"{', '.join(known)}. Rename or remove the key."
                f"{near_misses(truncated(key), known)}"
            )
    for key, field in known.items():
        if key not in values and field.default is MISSING:
            raise TableError(
                f"row {name}: the key {key!r} is missing. Expected a value for it. "
                "Add the key to this row of the table."
            )
    return kind(**values)


def table_from_lists(
    lists: Sequence[Sequence[Any]],
    *,
    name: str = "lists",
    shortcuts: bool = True,
    classes: int = 10,
) -> Table:
    """Returns the table for lists in the format of the Keras recipe.

    The format is [[units, [[filters, (kernel, kernel)], ...]], ...]. The root is a 7x7 convolution
    with 64 channels and stride 2, followed by a 3x3 pool. Every block after the first halves the
    resolution. Build the table with dialect="keras-lists". That dialect adds a projection whenever
    the shapes require one, so bottlenecks in the first block work too.

    Args:
        lists: One pair for each block: its number of units, and the filters and kernel of each
            convolution.
        name: The name of the table.
        shortcuts: False omits every addition, as the published recipe did by mistake.
        classes: The number of classes.

    Raises:
        TableError: A list has a different format. The message names the block.
    """
    blocks = []
    for number, pair in enumerate(lists, start=1):
        row = f"block{number}"
        try:
            units, convs = pair
            pairs = tuple((int(filters), int(height)) for filters, (height, _) in convs)
            square = all(height == width for _, (height, width) in convs)
        except (TypeError, ValueError) as error:
            raise TableError(
                f"row {row}: {pair!r}. Expected [units, [[filters, (kernel, kernel)], ...]]. "
                "Correct this list."
            ) from error
        if not pairs or not square:
            raise TableError(
                f"row {row}: {convs!r}. Expected at least one convolution, with square kernels. "
                "Correct this list."
            )
        width = next((filters for filters, kernel in pairs if kernel > 1), pairs[0][0])
        stride = 1 if number == 1 else 2
        blocks.append(Block(row, units, width, pairs[-1][0], stride, convs=pairs))
    root = (Conv("conv1", 64, 7, stride=2), Pool("pool1"))
    return Table(
        name, root, blocks=tuple(blocks), shortcuts=shortcuts, classes=classes, image_size=32
    )
