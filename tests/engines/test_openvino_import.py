from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("library", ["openvino", "nncf"])
def test_nothing_is_sent(library: str) -> None:
    """OpenVINO's statistics start a process that sends; here they are not even imported."""
    pytest.importorskip(library)
    code = (
        "import sys\n"
        "from forebear.engines import openvino_import\n"
        f"found = openvino_import.import_{library}()\n"
        f"assert found.__name__ == {library!r}\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')]\n"
        "import openvino_telemetry\n"  # another program may still import it
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
