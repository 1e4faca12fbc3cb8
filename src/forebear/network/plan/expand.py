"""Expands a table in a dialect into a plan: the stride, rate, padding and bias of every layer.

Nothing here imports torch. `plan.py` defines the records of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from forebear.errors import TableError
from forebear.limits import CHANNELS, CLASSES, INPUT_SIDE
from forebear.network.plan.cost import check_parameters, smallest_side
from forebear.network.plan.plan import Layer, Plan, Unit
from forebear.tables.checks import is_count, shown
from forebear.tables.dialects import Dialect
from forebear.tables.rows import Average, Block, Dropout, Norm, Pool, Row, Table, convs_of


class _Pace:
    """The stride and the dilation that the layers so far have accumulated."""

    def __init__(self, stride: int, target: int | None) -> None:
        self.stride, self.target, self.dense = stride, target, 1

    def take(self, step: int) -> tuple[int, int]:
        """Returns the actual stride and the rate of a layer with a nominal stride, and advances.

        This is TF-Slim's rule (tf_slim/nets/resnet_utils.py, stack_blocks_dense). Once the target
        stride is reached, a nominal stride multiplies the rate of all later layers instead.
        """
        rate = self.dense
        if self.stride == self.target:
            self.dense *= step
            return 1, rate
        self.stride *= step
        return step, rate


def output_strides(table: Table, dialect: Dialect, *, include_root: bool = True) -> tuple[int, ...]:
    """Returns every possible output stride, smallest first. The last one is the nominal stride.

    Raises:
        TableError: The product of all strides is larger than any image.
    """
    reached = [1]
    if include_root:
        for row in table.root:
            reached = [_product(reached[-1], row.stride, table)]
    for step in _steps(table, dialect):
        reached.append(_product(reached[-1], step, table))
    return tuple(dict.fromkeys(reached))


def _product(stride: int, step: int, table: Table) -> int:
    if stride * step > INPUT_SIDE:
        raise TableError(
            f"{table.name}: its strides multiply to {stride * step:,} or more. Expected at most "
            f"{INPUT_SIDE:,}. Correct the strides in the table."
        )
    return stride * step


def _steps(table: Table, dialect: Dialect) -> Iterator[int]:
    for row in table.layers:
        yield getattr(row, "stride", 1)
    for steps in _unit_steps(table, dialect):
        yield from steps


def _unit_steps(table: Table, dialect: Dialect) -> Iterator[list[int]]:
    """Yields the nominal strides of the units in each block."""
    following = [*(block.stride for block in table.blocks[1:]), 1]
    for number, (block, below) in enumerate(zip(table.blocks, following, strict=False)):
        steps = [1] * block.units
        # The first block has no previous block whose last unit could apply its stride.
        if dialect.strided_unit == "first" or number == 0:
            steps[0] *= block.stride
        if dialect.strided_unit == "last":
            steps[-1] *= below
        yield steps


def expand(
    table: Table,
    dialect: Dialect,
    *,
    num_classes: int | None,
    in_channels: int = 3,
    output_stride: int | None = None,
    global_pool: bool = True,
    include_root: bool = True,
    folded: bool = False,
) -> Plan:
    """Expands a table in a dialect into a plan.

    `folded` omits each norm that follows a convolution and gives the convolution a bias instead. In
    evaluation mode this computes the same function (`forebear.weights.rewrite`).

    Raises:
        ValueError: num_classes, in_channels or output_stride is out of range for this network.
        TableError: A row cannot be built. The message names it.
    """
    _check(table, dialect, num_classes, in_channels, output_stride, include_root)
    expand = _Expander(table, dialect, folded)
    channels, stride, root = in_channels, 1, []
    if include_root:
        for first in table.root:
            layer = expand.row(f"root.{first.name}", first, channels, first.stride, 1)
            root.append(layer)
            channels, stride = layer.channels, stride * first.stride
    pace = _Pace(stride, output_stride)
    body = []
    for row in table.layers:
        taken, rate = pace.take(getattr(row, "stride", 1))
        if isinstance(row, Average) and not global_pool:
            continue  # the output is a map, whose size depends on the input
        layer = expand.row(row.name, row, channels, taken, rate)
        body.append(layer)
        channels = layer.channels
    blocks: list[tuple[str, tuple[Unit, ...]]] = []
    for block, steps in zip(table.blocks, _unit_steps(table, dialect), strict=True):
        units = []
        for number, step in enumerate(steps, start=1):
            bare = number == 1 and not blocks and include_root and dialect.root_norm
            taken, rate = pace.take(step)
            path = f"{block.name}.unit_{number}"
            units.append(
                expand.unit(path, block, channels, step, taken, rate, first=number == 1, bare=bare)
            )
            channels = block.channels
        blocks.append((block.name, tuple(units)))
    mean = Layer(path="pool", kind="mean", in_channels=channels, channels=channels)
    logits = None
    if num_classes is not None:
        logits = Layer(
            path="logits", kind="logits", in_channels=channels, channels=num_classes, bias=True
        )
    plan = Plan(
        table=table,
        dialect=dialect,
        in_channels=in_channels,
        num_classes=num_classes,
        output_stride=output_stride,
        global_pool=global_pool,
        include_root=include_root,
        folded=folded,
        root=tuple(root),
        body=tuple(body),
        blocks=tuple(blocks),
        postnorm=expand.norm("postnorm", channels) if dialect.final_norm else None,
        pool=mean if global_pool else None,
        logits=logits,
    )
    check_parameters(plan)
    smallest_side(plan)
    return plan


def _check(
    table: Table,
    dialect: Dialect,
    num_classes: object,
    in_channels: object,
    output_stride: object,
    include_root: bool,
) -> None:
    if num_classes is not None and not is_count(num_classes, CLASSES):
        raise ValueError(
            f"num_classes={shown(num_classes)}: expected a positive integer of at most "
            f"{CLASSES:,}, or None. Pass None to get the features before the logits."
        )
    if not is_count(in_channels, CHANNELS):
        raise ValueError(
            f"in_channels={shown(in_channels)}: expected a positive integer of at most "
            f"{CHANNELS:,}. Pass 3 for colour images, or 1 for greyscale images."
        )
    reached = output_strides(table, dialect, include_root=include_root)
    fits = is_count(output_stride, INPUT_SIDE) and output_stride in reached
    if output_stride is not None and not fits:
        *firsts, last = map(str, reached)
        supported = f"{', '.join(firsts)} or {last}" if firsts else last
        raise ValueError(
            f"output_stride={shown(output_stride)}: {table.name} supports {supported}. "
            f"Pass {'one of these' if firsts else last}, or None for {last}."
        )


@dataclass(frozen=True, slots=True)
class _Expander:
    """Expands single rows of a table into layers, as the dialect requires."""

    table: Table
    dialect: Dialect
    folded: bool

    def _end(self, layer: Layer) -> Layer:
        """Returns the layer, with its norm folded in if norms are folded."""
        return replace(layer, norm=False, bias=True) if self.folded and layer.norm else layer

    def row(self, path: str, row: Row, channels: int, stride: int, rate: int) -> Layer:
        if isinstance(row, Pool):
            return self._pool(path, row, channels, stride, rate)
        if isinstance(row, Norm):
            return self.norm(path, channels)
        if isinstance(row, Average):
            return Layer(
                path=path, kind="average", in_channels=channels, channels=channels, side=row.side
            )
        if isinstance(row, Dropout):
            return Layer(
                path=path, kind="dropout", in_channels=channels, channels=channels, share=row.share
            )
        dialect = self.dialect
        padding, norm = row.padding, dialect.root_norm and not row.bare
        layer = Layer(
            path=path,
            kind="conv",
            in_channels=channels,
            channels=row.channels,
            kernel=row.kernel,
            step=row.stride,
            stride=stride,
            rate=rate,
            dense=rate,
            padding=self._padding(row.name, row.kernel, row.stride)
            if padding == "same"
            else padding,
            bias=dialect.bias_before_norm if dialect.root_norm else dialect.bias_without_norm,
            norm=norm,
            activation=self.table.activation if dialect.root_relu and not row.bare else "none",
        )
        return self._end(layer)

    def norm(self, path: str, channels: int) -> Layer:
        return Layer(
            path=path,
            kind="norm",
            in_channels=channels,
            channels=channels,
            norm=True,
            activation=self.table.activation,
        )

    def _pool(self, path: str, row: Pool, channels: int, stride: int, rate: int) -> Layer:
        padding: int | Literal["same"] = 0
        if row.padding == "same":
            padding = "same" if self.dialect.pool_padding == "same" else row.kernel // 2
        return Layer(
            path=path,
            kind="pool",
            in_channels=channels,
            channels=channels,
            kernel=row.kernel,
            step=row.stride,
            stride=stride,
            rate=rate,
            dense=rate,
            padding=padding,
            fill=self.dialect.pool_fill,
        )

    def _padding(self, row: str, kernel: int, step: int) -> int | Literal["same"]:
        if kernel > 1 and self.dialect.conv_padding == "same" and (step > 1 or kernel % 2 == 0):
            return "same"
        if kernel % 2 == 0:
            raise TableError(
                f"row {row}: kernel={kernel} is even, but dialect {self.dialect.name} pads both "
                "sides equally. Expected an odd kernel. Correct this row in the table, or pass "
                'dialect="keras-lists".'
            )
        return (kernel - 1) // 2

    def unit(
        self,
        path: str,
        block: Block,
        channels: int,
        step: int,
        taken: int,
        rate: int,
        *,
        first: bool,
        bare: bool,
    ) -> Unit:
        """Returns one residual unit. `bare`: the root already ends in a norm and a ReLU."""
        dialect = self.dialect
        post = dialect.order == "post"
        convs = self._convs(path, block, channels, step, taken, rate)
        preact = None
        if not post and not bare:
            preact = self.norm(f"{path}.preact", channels)
        shortcut = None
        if self.table.shortcuts:
            shortcut = self._shortcut(f"{path}.shortcut", block, channels, step, taken, first)
        return Unit(
            path=path,
            preact=preact,
            convs=convs,
            shortcut=shortcut,
            taps_preact=preact is not None and shortcut is not None and shortcut.kind == "conv",
            relu=post,
        )

    def _convs(
        self, path: str, block: Block, channels: int, step: int, taken: int, rate: int
    ) -> tuple[Layer, ...]:
        dialect = self.dialect
        pairs = convs_of(block, self.table.form)
        late = dialect.strided_conv == "conv2" and (block.convs or self.table.form == "bottleneck")
        strided = min(2 if late else 1, len(pairs))
        layers: list[Layer] = []
        for number, (out, kernel) in enumerate(pairs, start=1):
            last = number == len(pairs)
            norm = dialect.order == "post" or not last
            groups = block.groups if kernel > 1 else 1
            if channels % groups or out % groups:
                raise TableError(
                    f"row {block.name}: groups={groups} does not divide both the {channels} input "
                    f"channels and the {out} output channels of {path}.conv{number}. Expected a "
                    "common divisor. Correct this row in the table."
                )
            mine = step if number == strided else 1
            layers.append(
                Layer(
                    path=f"{path}.conv{number}",
                    kind="conv",
                    in_channels=channels,
                    channels=out,
                    kernel=kernel,
                    step=mine,
                    stride=taken if number == strided else 1,
                    # If this unit's stride became dilation, its later convolutions have it already.
                    rate=block.rate * (rate * step // taken if number > strided else rate),
                    dense=rate * step // taken if number > strided else rate,
                    padding=self._padding(block.name, kernel, mine),
                    groups=groups,
                    bias=dialect.bias_before_norm if norm else dialect.bias_without_norm,
                    norm=norm,
                    activation="none" if last else "relu",
                )
            )
            channels = out
        return tuple(self._end(layer) for layer in layers)

    def _shortcut(
        self, path: str, block: Block, channels: int, step: int, taken: int, first: bool
    ) -> Layer:
        dialect, out = self.dialect, block.channels
        projects = {
            "widen": channels != out,
            "change": channels != out or step != 1,
            "first": first or channels != out,
            "always": True,
            "after": False,
            "split": False,
        }[dialect.shortcut]
        if projects:
            norm = dialect.shortcut_norm
            projection = Layer(
                path=path,
                kind="conv",
                in_channels=channels,
                channels=out,
                step=step,
                stride=taken,
                bias=dialect.bias_before_norm if norm else dialect.bias_without_norm,
                norm=norm,
            )
            return self._end(projection)
        wider = out - channels
        if wider < 0:
            raise TableError(
                f"row {block.name}: the block reduces {channels} channels to {out}, but shortcuts "
                f"of dialect {dialect.name} can only append zero channels. Expected at least "
                f"{channels} channels. Correct this row in the table, or pass a dialect with "
                "projections, as in paper-v1."
            )
        before = wider // 2 if dialect.shortcut == "split" else 0
        return Layer(
            path=path,
            kind="identity",
            in_channels=channels,
            channels=out,
            step=step,
            stride=taken,
            zeros=(before, wider - before),
        )
