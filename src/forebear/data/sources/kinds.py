"""The kinds of data, by name alone: `--help` lists them without importing their readers."""

from __future__ import annotations

SPECS = {  # kind to the form of its spec
    "digits": "digits",
    "folder": "folder:PATH",
    "csv": "csv:FILE",
    "cifar10": "cifar10:PATH",
    "cifar100": "cifar100:PATH",
    "idx": "idx:PATH",
    "npz": "npz:PATH",
    "parquet": "parquet:PATH",
    "shards": "shards:PATH",
    "hub": "hub:NAME",
}


def listed_specs() -> str:
    """Every form of a spec in one phrase: "digits, folder:PATH, ... or hub:NAME"."""
    *most, last = SPECS.values()
    return f"{', '.join(most)} or {last}"
