"""The 18-layer list of the table-driven Keras recipe, trained by Keras 3 and by forebear.

python benchmarks/keras_table.py [--epochs 10] [--only forebear|keras] [--images N]

The recipe's own setting on the JPEG edition of CIFAR-10: Adam at 1e-3, batch 64, 32x32 pixels, none
of them moved or mirrored. Each trains in a process of its own, one after the other, on the same
decoded images. Keras runs as people run it (fit, fp32) in an environment of its own (--python).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import contest

LISTS = [[2, [[width, (3, 3)], [width, (3, 3)]]] for width in (64, 128, 256, 512)]
BATCH, RATE = 64, 1e-3


def network() -> Any:
    """The recipe's network in Keras layers, with its additions reaching the output."""
    import keras
    from keras import layers

    def conv(x: Any, filters: int, kernel: int, stride: int) -> Any:
        return layers.BatchNormalization()(layers.Conv2D(filters, kernel, stride, "same")(x))

    entry = layers.Input((32, 32, 3))
    x = layers.MaxPooling2D(3, 2, "same")(layers.ReLU()(conv(entry, 64, 7, 2)))
    for block, (units, convs) in enumerate(LISTS):
        for unit in range(units):
            stride = 2 if block and not unit else 1
            y = x
            for number, (filters, (kernel, _)) in enumerate(convs):
                y = conv(
                    layers.ReLU()(y) if number else y, filters, kernel, 1 if number else stride
                )
            changes = stride > 1 or x.shape[-1] != y.shape[-1]
            x = conv(x, y.shape[-1], 1, stride) if changes else x
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(entry, layers.Dense(10, activation="softmax")(x))


def keras_trains(file: Path, epochs: int) -> None:
    """In Keras' own process: a line of JSON out."""
    import keras
    import numpy as np

    class Clock(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.training: list[float] = []
            self.all: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.begun, self.tested = time.perf_counter(), 0.0

        def on_test_begin(self, logs: Any = None) -> None:
            self.test_begun = time.perf_counter()

        def on_test_end(self, logs: Any = None) -> None:
            self.tested = time.perf_counter() - self.test_begun

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.all.append(time.perf_counter() - self.begun)
            self.training.append(self.all[-1] - self.tested)

    keras.utils.set_random_seed(0)
    arrays, clock, model = np.load(file), Clock(), network()
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(RATE), loss, metrics=["accuracy"])
    train, test = (
        ((arrays[f"x_{part}"] / 255).astype("float32"), arrays[f"y_{part}"])
        for part in ("train", "test")
    )
    told = model.fit(*train, BATCH, epochs, validation_data=test, callbacks=[clock], verbose=2)
    found = {
        "training": clock.training,
        "all": clock.all,
        "accuracy": told.history["val_accuracy"][-1],
        "parameters": model.count_params(),
        "versions": contest.versions(),
    }
    print(json.dumps(found))


def forebear_trains(file: Path, epochs: int) -> dict[str, Any]:
    import forebear
    from forebear.tables.files import table_to_dict

    table = forebear.table_from_lists(LISTS, name="lists18")
    place = file.with_name("lists18.json")
    place.write_text(json.dumps(table_to_dict(table)))
    done = contest.train(
        "keras-table",
        *("--data", f"npz:{file}", "--network", place, "--dialect", "keras-lists"),
        *("--recipe", "keras-table", "--epochs", epochs, "--precision", "auto"),
    )
    ends = [line["seconds"] for line in done.metrics]
    values = forebear.load(done.folder / "model.safetensors").state_dict().values()
    count = sum(value.numel() for value in values if value.is_floating_point())  # counters are not
    steps = [line["step"] for line in done.metrics]
    return {
        "training": [
            (step - before) * BATCH / line["images_per_second"]
            for line, step, before in zip(done.metrics, steps, [0, *steps], strict=False)
        ],
        "all": [end - before for end, before in zip(ends, [0.0, *ends], strict=False)],
        "accuracy": done.accuracy,
        "parameters": count,
        "precision": done.precision,
    }


def main() -> None:
    parser = contest.options(__doc__)
    python = contest.ROOT / ".venv-peers" / "bin" / "python"
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", choices=("forebear", "keras"))
    parser.add_argument("--images", type=int, metavar="N", help="images per set, for a quick test")
    parser.add_argument("--python", default=str(python), help="an interpreter that has keras")
    parser.add_argument("--serve", type=Path, help="(for its own second process)")
    args = parser.parse_args()
    if args.serve:
        keras_trains(args.serve, args.epochs)
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    table = [
        "| | seconds per epoch | with its evaluation | accuracy | parameters |",
        "|---|---|---|---|---|",
        "| published, additions lost, on another machine and the original images | | 1,080 "
        "| 64.65 % | 11,019,530 |",
    ]
    text = [
        "Epochs are medians, evaluation of the validation images as it was done after each. "
        "Without the recipe's L2 term for both, which would slow Keras down; images go to Keras "
        "as shares of 255, to forebear with mean and deviation removed."
    ]
    with tempfile.TemporaryDirectory() as folder:
        import numpy as np

        file = Path(folder) / "cifar.npz"
        np.savez(file, **contest.cifar(args.data, args.images))
        if args.only != "forebear":
            words = [args.python, __file__, "--serve", str(file), "--epochs", str(args.epochs)]
            found = contest.run(words)[1]
            table.append(row("Keras `fit` on TensorFlow, fp32", found))
            text.append(f"Keras' environment: {found['versions']}.")
        if args.only != "keras":
            found = forebear_trains(file, args.epochs)
            table.append(row(f"forebear, {found['precision']}", found))
    title = f"The Keras table, {args.epochs} epochs of CIFAR-10 (JPEG edition)"
    contest.publish(args.out / "keras_table.md", title, " ".join(text), table)


def row(name: str, found: dict[str, Any]) -> str:
    seconds = (f"{statistics.median(found[key]):.1f}" for key in ("training", "all"))
    return (
        f"| {name} | {' | '.join(seconds)} | {100 * found['accuracy']:.2f} % "
        f"| {found['parameters']:,} |"
    )


if __name__ == "__main__":
    sys.exit(main())
