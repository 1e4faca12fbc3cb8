"""Names the variables of a TF2 checkpoint by the graph of the objects that own them.

The keys of such a checkpoint follow the attributes of objects, as in `model/layer-1/kernel`. The
graph also has the full name of each variable, which in Keras is `layer/weight`. The format is
defined in tensorflow/core/protobuf/trackable_object_graph.proto.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise, takewhile

from forebear.limits import NESTING, OBJECTS
from forebear.text import truncated
from forebear.weights.readers.errors import MAX_NAME
from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.protobuf import Field, fields

Path = tuple[str, ...]  # the attributes that lead from the root to an object
_VALUE = "VARIABLE_VALUE"
_COPIES = "_all_variables"  # Keras 3's model.export stores all variables a second time under it
# An optimizer of any version of Keras has a counter of its steps under one of these names.
_COUNTERS = {"iter", "_iterations", "iterations"}


@dataclass(frozen=True, slots=True)
class _Variable:
    """A variable of the program."""

    full: str  # its full name
    key: str  # in the checkpoint
    path: Path | None  # None: it belongs to an optimizer, or is a copy


@dataclass(slots=True)
class _Object:
    """An object of the program."""

    children: list[tuple[str, int]] = field(default_factory=list)  # (attribute, number)
    variable: tuple[str, str] | None = None  # its full name and key, if it is a variable

    @property
    def is_optimizer(self) -> bool:
        """Whether it is an optimizer, whose variables are no weights."""
        return any(name in _COUNTERS for name, _ in self.children)


def variable_names(graph: memoryview, keys: Collection[str]) -> dict[str, str]:
    """Returns {key: name} of the variables in a graph; other keys are not in it.

    A variable has its full name. If variables of several models have one name, each name follows
    the attributes that lead to its model: `student/conv1/kernel`. Variables of optimizers do not
    count. A variable whose name another one has keeps its key.

    Args:
        graph: A TrackableObjectGraph.
        keys: All keys of the checkpoint.

    Raises:
        DamageError: The graph is damaged, too large, or names a variable that is not there.
    """
    objects = _objects(graph)
    paths = _paths(objects)
    variables = [
        _Variable(*one.variable, paths.get(place))
        for place, one in enumerate(objects)
        if one.variable is not None
    ]
    _check(variables, keys)
    depth = _depth(variables)
    names: dict[str, str] = {}
    for own in (True, False):  # the variables of models are named first
        named = {one.key: _name(one, depth) for one in variables if (one.path is not None) is own}
        counts = Counter([*names.values(), *named.values(), *keys])
        alone = {key: name if name and counts[name] == 1 else key for key, name in named.items()}
        names |= alone
    return names


def _check(variables: Iterable[_Variable], keys: Collection[str]) -> None:
    for key, count in Counter(one.key for one in variables).items():
        if key not in keys:
            what = "which the checkpoint does not have"
            raise DamageError(f"its object graph names the variable {truncated(key)}, {what}")
        if count > 1:
            raise DamageError(f"its object graph names the variable {truncated(key)} {count} times")


def _name(one: _Variable, depth: int) -> str:
    """Returns the full name after the first attributes of the path; "" if there is none."""
    name = (*(one.path or ())[:-1][:depth], one.full)
    return "/".join(name) if one.full and sum(map(len, name)) < MAX_NAME else ""


def _depth(variables: Iterable[_Variable]) -> int:
    """Returns how many attributes of the paths make all names different; 0 if they are."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for one in variables:
        if one.path is not None:
            groups[one.full].append(one.path)
    neighbours = (pair for paths in groups.values() for pair in pairwise(sorted(paths)))
    return max((1 + _shared(one, other) for one, other in neighbours), default=0)


def _shared(one: Path, other: Path) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _paths(objects: list[_Object]) -> dict[int, Path]:
    """Returns the shortest path to each object that not only optimizers and copies lead to.

    An optimizer refers to the weights as well, by a path that may be shorter than the model's.
    """
    paths: dict[int, Path] = {0: ()} if objects else {}
    waiting = deque(paths)
    while waiting:
        place = waiting.popleft()
        for name, child in objects[place].children:
            if child in paths or name == _COPIES or objects[child].is_optimizer:
                continue
            paths[child] = (*paths[place], name)
            waiting.append(child)
            if len(paths[child]) > NESTING:
                raise DamageError(f"its object graph is nested more than {NESTING} levels deep")
    return paths


def _objects(graph: memoryview) -> list[_Object]:
    objects, parts = [], 0
    for node in fields(graph):
        if node.number != 1:
            continue
        one = _Object()
        objects.append(one)
        parts += 1
        for part in fields(node.message()):
            parts += 1
            if parts > OBJECTS:
                what = f"more than {OBJECTS} objects and references"
                raise DamageError(f"its object graph has {what}")
            if part.number == 1:
                one.children.append(_child(part))
            elif part.number == 2:
                one.variable = _attribute(part) or one.variable
    if any(number >= len(objects) for one in objects for _, number in one.children):
        raise DamageError(f"its object graph refers to an object beyond its {len(objects)}")
    return objects


def _child(part: Field) -> tuple[str, int]:
    """Reads an ObjectReference. A number of 0 is left out in the file."""
    inner = {each.number: each for each in fields(part.message())}
    return _text(inner, 2), inner[1].integer() if 1 in inner else 0


def _attribute(part: Field) -> tuple[str, str] | None:
    """Reads a SerializedTensor: the full name and the key, if it is the value of a variable."""
    inner = {each.number: each for each in fields(part.message())}
    if _text(inner, 1) != _VALUE:
        return None
    return _text(inner, 2).removesuffix(":0"), _text(inner, 3)


def _text(parts: Mapping[int, Field], number: int) -> str:
    try:
        text = bytes(parts[number].message()).decode() if number in parts else ""
    except UnicodeDecodeError as error:
        raise DamageError("its object graph has a name that is not UTF-8") from error
    if "\0" in text:
        raise DamageError("its object graph has a name that contains a NUL")
    return text
