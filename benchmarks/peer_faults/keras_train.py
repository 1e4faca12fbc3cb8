"""A plain Keras training script: the one that a reader of Keras' guides would write.

It uses what Keras documents for safety: BackupAndRestore after every step (or epoch),
ModelCheckpoint of the best epoch, TerminateOnNaN, a fixed seed and deterministic operations.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def build(classes: int, side: int, width: int = 32) -> Any:
    """A small residual network, with dropout so that random numbers matter."""
    import keras
    from keras import layers

    x = inputs = keras.Input((side, side, 3))
    x = layers.Rescaling(1 / 255)(x)
    x = layers.RandomFlip("horizontal", seed=1)(x)
    x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    for number in range(2):
        y = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        y = layers.BatchNormalization(name=f"norm{number}")(y)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(4 * width * width, activation="relu")(x)
    x = layers.Dropout(0.2, seed=2)(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax", name="logits")(x))


def dataset(folder: Path, side: int, batch: int, *, shuffle: bool) -> Any:
    import keras

    return keras.utils.image_dataset_from_directory(
        folder, image_size=(side, side), batch_size=batch, shuffle=shuffle, seed=3, verbose=True
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--classes", type=int)
    parser.add_argument("--save-freq", default="epoch", help="epoch, or a number of steps")
    parser.add_argument("--weights", type=Path)
    return parser.parse_args()


def main() -> None:
    import keras
    import tensorflow as tf

    class Steps(keras.callbacks.Callback):  # type: ignore[misc]
        """Prints each step, as the other peers' scripts do."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            print(f"step epoch {self.epoch} batch {batch} loss {logs['loss']}", flush=True)

    args = arguments()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    train = dataset(args.data / "train", args.side, args.batch, shuffle=True)
    val = dataset(args.data / "val", args.side, args.batch, shuffle=False)
    model = build(args.classes or len(train.class_names), args.side, args.width)
    if args.weights:
        model.load_weights(args.weights)
    optimizer = keras.optimizers.SGD(args.lr, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    every = args.save_freq if args.save_freq == "epoch" else int(args.save_freq)
    model.fit(
        train,
        validation_data=val,
        epochs=args.epochs,
        verbose=2,
        callbacks=[
            Steps(),
            keras.callbacks.BackupAndRestore(
                args.out / "backup",
                save_freq=every,
                double_checkpoint=True,
                delete_checkpoint=False,
            ),
            keras.callbacks.ModelCheckpoint(
                args.out / "best.keras", monitor="val_accuracy", save_best_only=True
            ),
            keras.callbacks.TerminateOnNaN(),
        ],
    )
    model.save(args.out / "final.keras")


if __name__ == "__main__":
    main()
