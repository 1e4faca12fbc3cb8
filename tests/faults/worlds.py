"""Two processes that train together, started as torchrun starts them."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.harness import Child
from tests.faults.zygote import Zygote


class Ranks:
    """The processes of one run."""

    def __init__(
        self,
        zygote: Zygote,
        folder: Path,
        words: tuple[object, ...],
        *,
        count: int = 2,
        timeout: float = 6,
        faults: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        """Starts them.

        Args:
            zygote: That forks them.
            folder: For what they say.
            words: Of the command, the same for all.
            count: Of processes.
            timeout: Seconds after which a silent process counts as lost.
            faults: By rank.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "FOREBEAR_TIMEOUT": str(timeout),
        }
        self.all: list[Child] = [
            zygote.start(
                *words,
                folder=folder / str(rank),
                env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                faults=(faults or {}).get(rank),
                memory_bytes=None,
            )
            for rank in range(count)
        ]
