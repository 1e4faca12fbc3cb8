"""The measured engines of a network, from the cache or measured now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from forebear.engines.choose import Choice, choice_key, choice_to_dict, choose, parse_choice
from forebear.engines.engine import EnginePrecision, EngineRequest
from forebear.engines.graph_cache import cache_of, read_choices, write_choice
from forebear.engines.make import EngineMaker, reference
from forebear.engines.open import check_request, installed
from forebear.network.network import Network


def choices(
    source: Path | None,
    requests: Sequence[EngineRequest],
    *,
    load: Callable[[], Network],
    measure: bool = False,
    network: str | None = None,
    which: str | None = None,
) -> list[Choice]:
    """Returns the choice for each request.

    Args:
        source: The file or the run that the network is loaded from.
        requests: Precision, batch size and threads.
        load: Loads the network.
        measure: Whether choices from the cache are measured again.
        network: As the user names it.
        which: The set of weights, as the user names it.

    Raises:
        ValueError: A request is not possible on this machine.
        WeightsError: No engine gives the network's results.
    """
    folder = None if source is None else cache_of(source, network, which)
    loaded: Network | None = None
    found = []
    for request in requests:
        check_request(request)
        precision: EnginePrecision = "fp32" if request.precision == "auto" else request.precision
        key = choice_key(precision, request.batch, request.threads)
        if folder is not None and not measure:
            try:
                found.append(parse_choice(read_choices(folder).get(key)))
                continue
            except ValueError:
                pass  # it was not measured yet
        loaded = loaded or load()
        with EngineMaker(loaded, precision, request.threads, folder) as maker:
            choice = choose(maker, installed(precision), *reference(loaded), batch=request.batch)
        if folder is not None:
            write_choice(folder, key, choice_to_dict(choice))
        found.append(choice)
    return found
