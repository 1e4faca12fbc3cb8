"""The catalog of published weights: finds a checkpoint by its network, its tag or its hash.

catalog_files.py has the files that each library published, and catalog_rows.py makes one row of
each. `fetch` downloads them.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path

from forebear.errors import WeightsError, near_misses
from forebear.tables.registry import find
from forebear.weights.catalog_rows import PUBLISHED, Hash, Published, digest_of

__all__ = ["PUBLISHED", "Hash", "Published", "by_digest", "find_published", "published"]


def published(pattern: str = "*") -> list[Published]:
    """Returns the checkpoints whose network or tag matches a shell pattern: "slim/*", "tv2*"."""

    def matches(row: Published) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for name in (row.network, row.tag))

    return [row for row in PUBLISHED if matches(row)]


def find_published(network: str, tag: str | None = None) -> Published:
    """Returns a published checkpoint of a network.

    Args:
        network: The name of the network, as in "torchvision/resnet50".
        tag: The tag of the checkpoint. None uses the library's default. For torchvision this is the
            newer recipe, if there are two.

    Raises:
        ValueError: The network or the tag is unknown, or the network has no published weights.
    """
    find(network)
    rows = {row.tag: row for row in PUBLISHED if row.network == network}
    if not rows:
        known = sorted({row.network for row in PUBLISHED})
        raise ValueError(
            f"network={network!r} has no published weights. Expected a network that "
            f"`forebear list --weights` lists.{near_misses(network, known)} "
            "Pass one of those, or a checkpoint of your own."
        )
    if tag is None:
        return next(row for row in rows.values() if row.default)
    if tag not in rows:
        raise ValueError(
            f"tag={tag!r} is not a tag of the weights published for {network}. Expected one of "
            f"{', '.join(rows)}.{near_misses(tag, rows)} "
            "Pass one of these, or None for the default."
        )
    return rows[tag]


def by_digest(path: Path, network: str | None = None) -> Published | None:
    """Returns the row of a file on disk, identified by its hash; None if there is no such row.

    If no hash was published, the row is identified only by the file name.

    Args:
        path: The file.
        network: The network whose row is preferred if the file has several rows: timm repeats
            torchvision's files.

    Raises:
        WeightsError: The file cannot be read.
    """
    try:
        digests = {name: digest_of(path, name) for name in ("sha256", "md5")}
    except OSError as error:
        raise WeightsError(
            f"{path}: the file cannot be read ({error.strerror}). Expected a readable checkpoint. "
            "Check the path and its permissions."
        ) from error
    found = [
        row
        for row in PUBLISHED
        if row.hash is not None and digests[row.hash.algorithm].startswith(row.hash.digest)
    ]
    if found:
        return next((row for row in found if row.network == network), found[0])
    named = (row for row in PUBLISHED if row.hash is None and not row.hub)
    return next((row for row in named if path.name in (row.file, row.member)), None)
