"""Finds near-duplicates: images with nearly the same perceptual hashes and similar features.

A hash of 64 bits finds candidates quickly. Simple images, such as a parachute in the sky, often
share it by chance, so that a finer hash of 256 bits and the features confirm each pair. Copies that
were encoded again, resized, brightened, made grey or cropped by up to about 3 % are found, and
mirrored or strongly cropped ones are not. Exact copies are not reported here: `check` finds them by
their content.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forebear.tasks.faults.close_hashes import Pairs, close_pairs

# The coarse hashes of a pair differ in at most `close_hashes.MOST_BITS` = 10 of 64 bits. In
# Imagenette, this holds for 165 pairs of 13,394 images, and none of them is a near-duplicate: in
# the finer hash they differ in 54 bits or more. JPEG quality 30, half the size and 30 % more
# brightness each change at most 24 of 256 bits in 95 % of 300 images, and a crop by 2.5 % changes
# 44 bits in the median.
FINE_BITS = 48  # of 256
SIMILARITY = 0.5  # of the features: half of all pairs of unrelated images are below 0.35
_PAIRS = 2**22  # pairs that are in memory at a time
_ROWS = 2**14  # pairs of features that are in memory at a time


@dataclass(frozen=True, slots=True, eq=False)
class Hashes:
    """Perceptual hashes of n images."""

    coarse: NDArray[np.uint64]  # [n], 64 bits
    fine: NDArray[np.uint64]  # [n, 4], 256 bits


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Edges between near-duplicates, without cycles: the tree of each group."""

    first: NDArray[np.int64]  # [edges]
    second: NDArray[np.int64]  # [edges]
    similarity: NDArray[np.float32]  # [edges], cosine of the features, -1 to 1


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Images that resemble each other, directly or through others of the group."""

    members: tuple[int, ...]  # the first one in the order of the data set, then those near to it
    resembles: tuple[int, ...]  # for each member but the first: the earlier member that it is like
    similarity: tuple[float, ...]  # of these two


def near_duplicates(
    hashes: Hashes,
    features: NDArray[np.float32],
    contents: Sequence[tuple[str, str]],
) -> list[Group]:
    """Returns the groups of near-duplicates, those across parts first, each kind by similarity.

    Similar coarse hashes are found by an index of their bands, without comparing all pairs.

    Args:
        hashes: Of n images.
        features: Pooled features [n, d].
        contents: Digest and part of each image. Copies within a part count as one image, and a pair
            of copies in different parts is no near-duplicate.
    """
    chosen = _without_copies(contents)
    directions = unit(features[chosen])
    digests = np.unique([contents[at][0] for at in chosen], return_inverse=True)[1]
    some = Hashes(hashes.coarse[chosen], hashes.fine[chosen])
    forest = _forest(some, directions, digests)
    groups = [_in_data(group, chosen) for group in _groups(forest, len(chosen))]
    return sorted(
        groups, key=lambda group: (not is_across(group, contents), -max(group.similarity))
    )


def is_across(group: Group, contents: Sequence[tuple[str, str]]) -> bool:
    """Whether a group has images of several parts."""
    return len({contents[member][1] for member in group.members}) > 1


def unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the rows divided by their Euclidean norms; rows of zeros stay as they are."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = features / np.maximum(norms, np.finfo(np.float32).tiny)
    return scaled


def _without_copies(contents: Sequence[tuple[str, str]]) -> NDArray[np.int64]:
    """Returns the index of the first image of each content in each part."""
    first: dict[tuple[str, str], int] = {}
    for at, content in enumerate(contents):
        first.setdefault(content, at)
    return np.array(sorted(first.values()), np.int64)


def _forest(hashes: Hashes, directions: NDArray[np.float32], digests: NDArray[np.int64]) -> Forest:
    """Returns the most similar edges that connect each group: a spanning forest of the pairs.

    The forest is updated whenever `_PAIRS` pairs are found, so that n images of a kind, such as
    blank ones, take n edges of memory instead of n^2.
    """
    count = len(hashes.coarse)
    found = Forest(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    for first, second in _batches(close_pairs(hashes.coarse)):
        new = digests[first] != digests[second]
        first, second = first[new], second[new]
        bits, similarity = _compared(hashes.fine, directions, first, second)
        kept = (bits <= FINE_BITS) & (similarity >= SIMILARITY)
        if kept.any():
            found = _spanning(
                Forest(
                    np.concatenate([found.first, first[kept]]),
                    np.concatenate([found.second, second[kept]]),
                    np.concatenate([found.similarity, similarity[kept]]),
                ),
                count,
            )
    return found


def _batches(pairs: Iterable[Pairs]) -> Iterator[Pairs]:
    """Joins pairs until there are `_PAIRS` of them."""
    waiting: list[Pairs] = []
    held = 0
    for some in pairs:
        waiting.append(some)
        held += len(some[0])
        if held >= _PAIRS:
            yield _joined(waiting)
            waiting, held = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(pairs: Sequence[Pairs]) -> Pairs:
    first, second = zip(*pairs, strict=True)
    return np.concatenate(first), np.concatenate(second)


def _compared(
    fine: NDArray[np.uint64],
    directions: NDArray[np.float32],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the Hamming distances of the finer hashes, and the cosine similarities."""
    bits, similarity = np.empty(len(first), np.int64), np.empty(len(first), np.float32)
    for start in range(0, len(first), _ROWS):
        part = slice(start, start + _ROWS)
        a, b = first[part], second[part]
        bits[part] = np.bitwise_count(fine[a] ^ fine[b]).sum(1, dtype=np.int64)
        similarity[part] = np.einsum("nd,nd->n", directions[a], directions[b])
    return bits, similarity


def _spanning(edges: Forest, count: int) -> Forest:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    # An edge of weight 0 would be no edge.
    weights = (2.0 - edges.similarity.astype(np.float64), (edges.first, edges.second))
    tree = minimum_spanning_tree(coo_array(weights, (count, count)).tocsr()).tocoo()
    first, second = (np.asarray(axis, np.int64) for axis in tree.coords)
    return Forest(first, second, (2.0 - tree.data).astype(np.float32))


def _groups(forest: Forest, count: int) -> list[Group]:
    """Returns the trees of a forest, each from its first image outwards."""
    near: dict[int, list[tuple[int, float]]] = {}
    for a, b, similarity in zip(forest.first, forest.second, forest.similarity, strict=True):
        near.setdefault(int(a), []).append((int(b), float(similarity)))
        near.setdefault(int(b), []).append((int(a), float(similarity)))
    seen: set[int] = set()
    groups = []
    for start in range(count):
        if start in seen or start not in near:
            continue
        seen.add(start)
        edges: list[tuple[int, int, float]] = []
        members = [start]
        for member in members:  # the loop appends to the list
            for other, similarity in sorted(near[member]):
                if other not in seen:
                    seen.add(other)
                    members.append(other)
                    edges.append((other, member, similarity))
        groups.append(
            Group(tuple(members), tuple(one[1] for one in edges), tuple(one[2] for one in edges))
        )
    return groups


def _in_data(group: Group, chosen: NDArray[np.int64]) -> Group:
    """Returns the group with the indices of all images, those with copies included."""
    members, resembles = (
        tuple(int(chosen[at]) for at in some) for some in (group.members, group.resembles)
    )
    return Group(members, resembles, group.similarity)
