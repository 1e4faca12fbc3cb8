"""Tries the 25 faults of forebear's reliability suite on timm, torchvision's script and Keras.

    PYTHON benchmarks/faults_peers.py --timm-script PATH/train.py --vision-script PATH/train.py
                                      [--only CASE ...] [--peers NAME ...]

PYTHON is the interpreter of an environment with the peers; forebear itself is not needed there:

    pip install torch==2.13.0 timm==1.0.28 pillow numpy h5py safetensors tensorflow-cpu==2.21.0 \
        keras==3.15.1
    pip install --no-deps torchvision==0.28.0

The two scripts are not in the wheels. Each is read from its repository: train.py of
github.com/huggingface/pytorch-image-models at tag v1.0.28, and the folder references/classification
of github.com/pytorch/vision at 428a54c96e82226c0d2d8522e9cbfdca64283da0. Others are accepted, and
their SHA-256 stands in the report.

Every scenario is the same code for all peers (peer_faults/), with a driver for each (peers.py) that
switches on what the peer documents for safety: timm's recovery files every 4 steps, Keras'
BackupAndRestore every 4 steps with double_checkpoint, TerminateOnNaN and ModelCheckpoint. Each run
is a fork of a process that has imported the peer. Writes benchmarks/results/faults_peers.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import date
from pathlib import Path
from typing import Any

from peer_faults import cases, table

RESULTS = Path(__file__).parent / "results" / "faults_peers.md"
NAMES = ("timm", "vision", "keras")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--timm-script", type=Path)
    parser.add_argument("--vision-script", type=Path)
    parser.add_argument("--only", type=int, nargs="*", metavar="CASE", help="numbers, 1 to 25")
    parser.add_argument("--peers", nargs="*", choices=NAMES, default=NAMES)
    parser.add_argument("--found", type=Path, help="keep the raw answers here, and add to them")
    parser.add_argument("--place", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--machine", default=platform.processor(), help="for the heading")
    parser.add_argument("--table-only", action="store_true", help="of the answers in --found")
    parser.add_argument("--in-peer", choices=NAMES, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_peer(args: argparse.Namespace) -> None:
    """Runs the scenarios of one peer; adds each answer to the file of answers."""
    from peer_faults.bench import Bench
    from peer_faults.peers import Keras, Timm, TorchVision

    peer: Any = {
        "timm": lambda: Timm(args.timm_script.resolve()),
        "vision": lambda: TorchVision(args.vision_script.resolve()),
        "keras": Keras,
    }[args.in_peer]()
    peer.load()
    place = Path(tempfile.mkdtemp(prefix=f"faults-{args.in_peer}-", dir=args.place))
    place.chmod(0o755)
    os.environ["HOME"] = str(place)
    bench = Bench(peer, place)
    answers = json.loads(args.found.read_text()) if args.found.exists() else {}
    mine = answers.setdefault(args.in_peer, {"cases": {}})
    mine["versions"] = peer.versions()
    try:
        for case in cases.CASES:
            if args.only and case.number not in args.only:
                continue
            started = time.perf_counter()
            try:
                answer = case.run(bench).as_json()
            except Exception as error:
                traceback.print_exc()
                answer = {"verdict": "not run", "good": 0, "of": 0, "variants": [],
                          "remark": f"the scenario broke: {error!s:.300}"}  # fmt: skip
            answer["seconds"] = round(time.perf_counter() - started, 1)
            mine["cases"][str(case.number)] = answer
            print(
                f"{args.in_peer} {case.number}: {json.dumps(answer)}", file=sys.stderr, flush=True
            )
            args.found.write_text(json.dumps(answers, indent=1))
            for left in place.iterdir():
                if left.name.startswith(("out", "log", "copy", "world", "mount")):
                    shutil.rmtree(left, ignore_errors=True)
                    left.unlink(missing_ok=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def digest(path: Path | None) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""


def main() -> None:
    args = arguments()
    args.found = args.found or Path(tempfile.mkdtemp(dir=args.place), "found.json")
    if args.in_peer:
        return in_peer(args)
    one = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(one, "1") | {"PYTHONDONTWRITEBYTECODE": "1"}
    for name in [] if args.table_only else args.peers:
        words = [sys.executable, __file__, "--in-peer", name, "--found", str(args.found)]
        words += ["--place", str(args.place)]
        if args.timm_script:
            words += ["--timm-script", str(args.timm_script)]
        if args.vision_script:
            words += ["--vision-script", str(args.vision_script)]
        if args.only:
            words += ["--only", *map(str, args.only)]
        subprocess.run(words, env=environment, check=False)
    answers = json.loads(args.found.read_text())
    scripts = {"timm": digest(args.timm_script), "vision": digest(args.vision_script)}
    args.out.write_text(table.report(answers, scripts, args.machine, f"{date.today()}"))
    print(args.out.read_text())


if __name__ == "__main__":
    main()
