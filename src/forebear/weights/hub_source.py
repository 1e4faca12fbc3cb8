"""Fetches a folder of the Hugging Face Hub that is given as hf:OWNER/NAME.

huggingface_hub keeps it in its own cache, and answers from there under HF_HUB_OFFLINE=1. Only the
config, the preprocessing and safetensors are fetched: never a pickle or a program.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from functools import cache
from pathlib import Path

from forebear.errors import WeightsError
from forebear.text import one_line, truncated

_SCHEME = "hf:"
_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
FILES = (  # patterns of what is fetched
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
)
_EXPECTED = "Expected hf:OWNER/NAME, a public repository of the Hugging Face Hub."
# What to do, by the name of the exception of huggingface_hub or of one of its bases.
_REMEDIES = {
    "GatedRepoError": "Accept its terms on huggingface.co, and run hf auth login.",
    "RepositoryNotFoundError": "Check the name on huggingface.co.",
    "RevisionNotFoundError": "Check the revision on huggingface.co, or leave @REVISION out.",
    "OfflineModeIsEnabled": "Unset HF_HUB_OFFLINE, or fetch it with hf download before.",
    "LocalEntryNotFoundError": "Go online, or unset HF_HUB_OFFLINE if it is set. Otherwise pass a "
    "folder that was downloaded elsewhere.",
}


def located(path: Path) -> Path:
    """Returns the folder of a repository that is given as hf:OWNER/NAME, or the same path.

    hf:OWNER/NAME@REVISION names a branch, a tag or a commit.

    Raises:
        WeightsError: The name is malformed or unknown, the Hub cannot be reached, huggingface_hub
            is missing, or the repository has no safetensors.
    """
    name = str(path)
    if not name.startswith(_SCHEME) or path.exists():
        return path
    found = _NAME.fullmatch(name.removeprefix(_SCHEME))
    if found is None:
        raise WeightsError(
            f"{truncated(name)}: this is no name of the Hub. {_EXPECTED} Pass a name such as "
            "hf:microsoft/resnet-50, or with a revision, hf:microsoft/resnet-50@main."
        )
    from forebear.weights.readers.hub import is_hub_folder  # imports torch

    folder = _snapshot(found["repo"], found["revision"])
    if not is_hub_folder(folder):
        raise WeightsError(
            f"{truncated(name)}: this repository has no model.safetensors. Expected one: forebear "
            "fetches no other weights. Download its files yourself, and pass the folder."
        )
    return folder


@cache
def _snapshot(repo: str, revision: str | None) -> Path:
    """Downloads a repository once in a process."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise WeightsError(
            f"{_SCHEME}{repo}: huggingface_hub is not installed. Expected it for names of the Hub. "
            "Run pip install 'forebear[hub]', or pass a folder."
        )
    hub = importlib.import_module("huggingface_hub")
    try:
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # the errors of its HTTP library differ between versions
        kinds = {kind.__name__ for kind in type(error).__mro__}
        remedy = next((line for name, line in _REMEDIES.items() if name in kinds), "")
        said = truncated(one_line(str(error)) or type(error).__name__)
        raise WeightsError(
            f"{_SCHEME}{truncated(repo)}: it cannot be fetched ({said}). {_EXPECTED} "
            f"{remedy or 'Check the connection and try again.'}"
        ) from error
