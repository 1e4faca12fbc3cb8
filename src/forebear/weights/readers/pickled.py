"""What a torch pickle asks for, read off its instructions without following any of them.

torch.load(weights_only=True) is what protects; this comes before it, names the culprit, and stops
what would only exhaust the machine.
"""

from __future__ import annotations

import pickletools
from io import BytesIO
from pathlib import Path

from forebear.weights.readers.refusal import reading, refused, shown

MAX_PICKLE = 16 * 2**20  # bytes; ResNet-1202's state dict has 1.3 MB of pickle
_MAX_TUPLES = 50_000  # nested deeper, hashing one runs out of C stack; a tensor takes 4
_EXPECTED = "a pickled state dict: names, dense tensors and plain numbers"
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_ALLOWED = frozenset(
    {
        "collections OrderedDict",
        "collections Counter",  # in the schedule's state beside the weights
        "torch Size",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_tensor",  # before 0.4
        "torch._utils _rebuild_tensor_v2",
        "torch.nn.parameter Parameter",
        *(f"torch {kind}Storage" for kind in _STORAGES),
    }
)


def check_pickles(path: Path, start: bytes, count: int) -> None:
    """Looks through the `count` pickles with which `start` begins.

    Raises:
        WeightsError: one asks for a global that state dicts do not need, which is named, or is cut
            short, damaged or nested without bound.
    """
    file = BytesIO(start)
    for _ in range(count):
        with reading(path, _EXPECTED):
            _check(path, file)


def _check(path: Path, file: BytesIO) -> None:
    tuples = 0
    for instruction, argument, _ in pickletools.genops(file):
        name = instruction.name
        if name in ("GLOBAL", "INST", "STACK_GLOBAL") and argument not in _ALLOWED:
            asked = shown(str(argument or "a name that it computes").replace(" ", "."))
            raise refused(
                path,
                f"the pickle asks for {asked}; nothing was run",
                _EXPECTED,
                "Do not trust this file, or save model.state_dict() alone where it was made.",
            )
        if name == "PROTO" and argument != 2:
            raise refused(
                path,
                f"a pickle of protocol {argument}",
                "protocol 2, which torch.save writes",
                "Save it again without pickle_protocol.",
            )
        tuples += name.startswith("TUPLE")
        if tuples > _MAX_TUPLES:
            raise refused(path, f"a pickle of more than {_MAX_TUPLES} tuples", _EXPECTED)
