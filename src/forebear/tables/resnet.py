"""ResNets: table 1 and section 4.2 of He et al. 2015, and the CIFAR networks of He et al. 2016.

Version 1 and version 2 (pre-activation) use the same rows. The dialect decides the order of norm,
ReLU and convolution.
"""

from __future__ import annotations

from dataclasses import replace

from forebear.tables.rows import Block, Conv, Form, Pool, Table

HE_2015 = "He et al. 2015 (arXiv 1512.03385)"
HE_2016 = "He et al. 2016 (arXiv 1603.05027)"
ZAGORUYKO_2016 = "Zagoruyko and Komodakis 2016 (arXiv 1605.07146)"

IMAGENET_ROOT = (Conv("conv1", 64, 7, stride=2), Pool("pool1"))
# Units in each block, by depth: He et al. 2015, table 1. Depth 200: He et al. 2016, section 5.
# fmt: off
UNITS = {
    18:  (2, 2, 2, 2),
    34:  (3, 4, 6, 3),
    50:  (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
# fmt: on


def imagenet(name: str, depth: int, *, widen: int = 1, shortcuts: bool = True) -> Table:
    """Returns the ImageNet network of a given depth: 18, 34, 50, 101, 152 or 200 layers.

    `widen` multiplies the channels of the 3x3 convolutions (Zagoruyko and Komodakis 2016).
    `shortcuts=False` gives a plain network.
    """
    form: Form = "basic" if depth < 50 else "bottleneck"
    out = 1 if form == "basic" else 4
    blocks = tuple(
        Block(f"block{n}", units, 64 * widen * 2 ** (n - 1), 64 * out * 2 ** (n - 1), min(n, 2))
        for n, units in enumerate(UNITS[depth], start=1)
    )
    source = _imagenet_source(depth, widen)
    return Table(name, IMAGENET_ROOT, form, blocks, shortcuts=shortcuts, source=source)


def _imagenet_source(depth: int, widen: int) -> str:
    if depth == 200:
        return f"{HE_2016}, section 5"
    source = f"{HE_2015}, table 1"
    return source if widen == 1 else f"{source}; {ZAGORUYKO_2016}, width times {widen}"


def cifar_root(channels: int) -> tuple[Conv]:
    """Returns a root for images of 32 pixels: a 3x3 convolution of stride 1, without a pool."""
    return (Conv("conv1", channels, 3),)


def cifar(name: str, depth: int, form: Form = "basic") -> Table:
    """Returns the CIFAR network of a given depth.

    The depth is 6n + 2 with basic units (He et al. 2015, section 4.2), and 9n + 2 with bottlenecks
    (He et al. 2016, section 4).
    """
    layers, out = (2, 1) if form == "basic" else (3, 4)
    units = (depth - 2) // (3 * layers)
    blocks = tuple(
        Block(f"block{n}", units, width, width * out, min(n, 2))
        for n, width in enumerate((16, 32, 64), start=1)
    )
    source = f"{HE_2015}, section 4.2" if form == "basic" else f"{HE_2016}, section 4"
    return Table(name, cifar_root(16), form, blocks, classes=10, image_size=32, source=source)


def cifar_resnet(name: str, depth: int) -> Table:
    """Returns an ImageNet network with the CIFAR root of 64 channels, without a pool."""
    table = imagenet(name, depth)
    source = f"{table.source}, with the 3x3 root of section 4.2"
    return replace(table, root=cifar_root(64), classes=10, image_size=32, source=source)
