"""Dialects: the points on which faithful implementations of one paper differ, as data.

Each dialect is one record without default values. The sources are tf_slim 1.1.0
(nets/resnet_utils.py, resnet_v1.py, resnet_v2.py, alexnet.py), Keras 3.15 and keras-applications
1.0.8 (resnet_common.py, resnet50.py), torchvision 0.28, timm 1.0.31,
akamaster/pytorch_resnet_cifar10, facebookarchive/fb.resnet.torch and KaimingHe/resnet-1k-layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from forebear.limits import TABLE_NAME
from forebear.tables.checks import check_words, is_line, is_number, refuse, shown
from forebear.tables.preprocessing import (
    CIFAR,
    KERAS_CAFFE,
    KERAS_TF,
    KERAS_TORCH,
    SLIM_INCEPTION,
    SLIM_VGG,
    TIMM,
    TIMM_V2,
    TORCHVISION,
    Preprocessing,
)

# Which units have a projection, a 1x1 convolution, as their shortcut. All others use the identity.
#   widen   units that change the number of channels (option B of He et al. 2015; TF-Slim)
#   change  units that change the number of channels or the resolution (torchvision)
#   first   the first unit of every block (Keras)
#   always  every unit (option C)
#   after   none: zero channels are appended (option A)
#   split   none: zero channels are added before and after (akamaster's option A)
Shortcut = Literal["widen", "change", "first", "always", "after", "split"]
Init = Literal[
    "slim",
    "slim-alexnet",
    "glorot",
    "torchvision",
    "torchvision-alexnet",
    "timm",
    "timm-v2",
    "fan-in",
    "fan-out",
]
Names = Literal[
    "slim",
    "slim-alexnet",
    "keras",
    "keras-old",
    "kerashub",
    "torchvision",
    "torchvision-alexnet",
    "timm-v2",
    "cifar",
    "weiaicunzai",
    "paddle",
    "caffe2",
    "detectron2",
    "flax",
    "transformers-flax",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The implementation choices of one library that a table leaves open.

    No field has a default, so that every dialect states all of them.

    Raises:
        ValueError: A value is not possible. The message names the field.
    """

    name: str
    order: Literal["post", "pre"]  # norm and ReLU after each convolution, or before (version 2)
    strided_unit: Literal["first", "last"]  # last: the last unit of the previous block (TF-Slim)
    strided_conv: Literal["conv1", "conv2"]  # of a bottleneck; in a basic unit always conv1
    conv_padding: Literal["explicit", "same"]  # same: TensorFlow's, which depends on the input
    pool_padding: Literal["explicit", "same"]  # the root's pool: 1 and 1, or TensorFlow's SAME
    pool_fill: Literal["lowest", "zero"]  # the pool's padding value: -inf or 0
    norm_eps: float
    norm_decay: float  # fraction of the running mean kept in each step: 1 - torch's momentum
    norm_variance: Literal["unbiased", "biased"]  # the batch variance that updates the running one
    root_norm: bool  # the root's convolutions have a norm
    root_relu: bool
    bias_before_norm: bool  # convolutions with a norm after them have a bias
    bias_without_norm: bool  # convolutions without a norm after them have a bias
    shortcut: Shortcut
    shortcut_norm: bool  # projections have a norm
    final_norm: bool  # norm and ReLU after the last block
    head: Literal["conv", "linear"]  # how the original library stores the weights of the logits
    background: bool  # the published weights have an additional class 0, "background"
    init: Init
    names: Names
    preprocessing: Preprocessing

    def __post_init__(self) -> None:
        where = f"dialect {shown(self.name)}"
        expected = f"a string of one line and at most {TABLE_NAME} characters"
        refuse(is_line(self.name, TABLE_NAME), where, "name", self.name, expected)
        check_words(self, where)
        fits = is_number(self.norm_eps, 0, 1) and self.norm_eps > 0
        refuse(fits, where, "norm_eps", self.norm_eps, "a number above 0 and up to 1")
        fits = is_number(self.norm_decay, 0, 1)
        refuse(fits, where, "norm_decay", self.norm_decay, "a number from 0 to 1")
        fits = isinstance(self.preprocessing, Preprocessing)
        refuse(fits, where, "preprocessing", self.preprocessing, "a Preprocessing")


SLIM_V1 = Dialect(
    name="slim-v1",
    order="post",
    strided_unit="last",
    strided_conv="conv2",
    conv_padding="explicit",  # conv2d_same: does not use TensorFlow's asymmetric SAME
    pool_padding="same",
    pool_fill="lowest",
    norm_eps=1e-5,
    norm_decay=0.997,
    norm_variance="unbiased",
    root_norm=True,
    root_relu=True,
    bias_before_norm=False,
    bias_without_norm=False,
    shortcut="widen",
    shortcut_norm=True,
    final_norm=False,
    head="conv",
    background=False,
    init="slim",
    names="slim",
    preprocessing=SLIM_VGG,
)
SLIM_V2 = replace(
    SLIM_V1,
    name="slim-v2",
    order="pre",
    root_norm=False,
    root_relu=False,
    bias_without_norm=True,
    shortcut_norm=False,
    final_norm=True,
    background=True,
    preprocessing=SLIM_INCEPTION,
)
SLIM_ALEXNET = replace(
    SLIM_V1,
    name="slim-alexnet",
    root_norm=False,
    bias_without_norm=True,
    init="slim-alexnet",
    names="slim-alexnet",
)
KERAS_V1 = Dialect(
    name="keras-v1",
    order="post",
    strided_unit="first",
    strided_conv="conv1",
    conv_padding="explicit",
    pool_padding="explicit",
    pool_fill="zero",
    norm_eps=1.001e-5,
    norm_decay=0.99,
    norm_variance="biased",  # Keras 3 on TensorFlow; Keras 2 uses the unbiased variance
    root_norm=True,
    root_relu=True,
    bias_before_norm=True,
    bias_without_norm=True,
    shortcut="first",
    shortcut_norm=True,
    final_norm=False,
    head="linear",
    background=False,
    init="glorot",
    names="keras",
    preprocessing=KERAS_CAFFE,
)
KERAS_V2 = replace(
    KERAS_V1,
    name="keras-v2",
    order="pre",
    strided_unit="last",
    strided_conv="conv2",
    root_norm=False,
    root_relu=False,
    bias_before_norm=False,
    shortcut_norm=False,
    final_norm=True,
    preprocessing=KERAS_TF,
)
KERAS2_V1 = replace(KERAS_V1, name="keras2-v1", norm_variance="unbiased")
KERAS2_V2 = replace(KERAS_V2, name="keras2-v2", norm_variance="unbiased")
KERAS_RESNEXT = replace(
    KERAS2_V1,
    name="keras-resnext",
    strided_conv="conv2",
    bias_before_norm=False,
    bias_without_norm=False,
    preprocessing=KERAS_TORCH,
)
KERAS_OLD = replace(KERAS2_V1, name="keras-old", norm_eps=1e-3, init="fan-in", names="keras-old")
# Tables made by `table_from_lists`: Keras layers with padding="same" and the default norm.
KERAS_LISTS = replace(
    KERAS2_V1,
    name="keras-lists",
    conv_padding="same",
    pool_padding="same",
    pool_fill="lowest",
    norm_eps=1e-3,
    shortcut="change",
    preprocessing=CIFAR,
)
TORCHVISION_V1 = Dialect(
    name="torchvision",
    order="post",
    strided_unit="first",
    strided_conv="conv2",  # "v1.5"
    conv_padding="explicit",
    pool_padding="explicit",
    pool_fill="lowest",
    norm_eps=1e-5,
    norm_decay=0.9,
    norm_variance="unbiased",
    root_norm=True,
    root_relu=True,
    bias_before_norm=False,
    bias_without_norm=False,
    shortcut="change",
    shortcut_norm=True,
    final_norm=False,
    head="linear",
    background=False,
    init="torchvision",
    names="torchvision",
    preprocessing=TORCHVISION,
)
TORCHVISION_ALEXNET = replace(
    TORCHVISION_V1,
    name="torchvision-alexnet",
    root_norm=False,
    bias_without_norm=True,
    init="torchvision-alexnet",
    names="torchvision-alexnet",
)
TIMM_V1 = replace(TORCHVISION_V1, name="timm", init="timm", preprocessing=TIMM)
TIMM_PREACT = replace(
    TORCHVISION_V1,
    name="timm-v2",
    order="pre",
    root_norm=False,
    root_relu=False,
    shortcut="first",
    shortcut_norm=False,
    final_norm=True,
    head="conv",
    init="timm-v2",
    names="timm-v2",
    preprocessing=TIMM_V2,
)
TIMM_PREACT_BASIC = replace(TIMM_PREACT, name="timm-v2-basic", shortcut="change")
# He et al. 2015 as in their Caffe models: the first 1x1 has the stride; pool windows start at 0.
PAPER_V1 = replace(
    TORCHVISION_V1,
    name="paper-v1",
    strided_conv="conv1",
    pool_padding="same",
    shortcut="widen",
    init="fan-in",
)
PAPER_V1_A = replace(PAPER_V1, name="paper-v1-a", shortcut="after")
PAPER_V1_C = replace(PAPER_V1, name="paper-v1-c", shortcut="always")
# He et al. 2016, appendix: the first activation precedes the first unit, so its shortcut and its
# convolutions both start from the activation.
PAPER_V2 = replace(
    PAPER_V1,
    name="paper-v2",
    order="pre",
    pool_padding="explicit",
    shortcut_norm=False,
    final_norm=True,
    init="fan-out",
    names="cifar",
    preprocessing=CIFAR,
)
PAPER_V2_IMAGENET = replace(  # fb.resnet.torch, models/preresnet.lua
    PAPER_V2, name="paper-v2-imagenet", strided_conv="conv2", preprocessing=TORCHVISION
)
# The 110-layer network of He et al. 2016, section 3, is that of 2015: option A and basic units.
PAPER_V2_A = replace(PAPER_V2, name="paper-v2-a", shortcut="after")
PAPER_RESNEXT = replace(  # facebookresearch/ResNeXt, models/resnext.lua, form C, shortcut B
    TORCHVISION_V1, name="paper-resnext", shortcut="widen", init="fan-out"
)
PAPER_CIFAR = replace(
    PAPER_V1, name="paper-cifar", shortcut="split", names="cifar", preprocessing=CIFAR
)
PAPER_CIFAR_B = replace(PAPER_CIFAR, name="paper-cifar-b", strided_conv="conv2", shortcut="change")
PAPER_CIFAR_RESNEXT = replace(
    PAPER_RESNEXT, name="paper-cifar-resnext", names="cifar", preprocessing=CIFAR
)

# CIFAR networks under torchvision's names: chenyaofo/pytorch-cifar-models, resnet.py.
_CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
TORCHVISION_CIFAR = replace(
    TORCHVISION_V1,
    name="torchvision-cifar",
    preprocessing=replace(CIFAR, mean=_CIFAR_MEAN, std=(0.2023, 0.1994, 0.2010)),
)
# weiaicunzai/pytorch-cifar100, conf/global_settings.py.
WEIAICUNZAI = replace(
    TORCHVISION_V1,
    name="weiaicunzai",
    names="weiaicunzai",
    preprocessing=replace(
        CIFAR, mean=(0.507076, 0.486549, 0.440918), std=(0.267334, 0.256438, 0.276151)
    ),
)
# paddle.vision.models.resnet: torchvision's function.
PADDLE = replace(TORCHVISION_V1, name="paddle", names="paddle")
# Detectron's copies of the Caffe models: MODEL_ZOO.md, and detectron2's defaults.py (PIXEL_MEAN in
# BGR order). detectron2 pads the max pool by a pixel, where Caffe's windows start at pixel 0.
DETECTRON = replace(
    TORCHVISION_V1,
    name="detectron",
    strided_conv="conv1",
    names="caffe2",
    preprocessing=replace(
        TORCHVISION, order="BGR", scale=1.0, mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0)
    ),
)
# X-101-32x8d, trained with Caffe2: the stride is in the 3x3 convolution.
DETECTRON_RESNEXT = replace(
    DETECTRON,
    name="detectron-resnext",
    strided_conv="conv2",
    preprocessing=replace(DETECTRON.preprocessing, std=(57.375, 57.12, 58.395)),
)
DETECTRON2 = replace(DETECTRON, name="detectron2", names="detectron2")
DETECTRON2_RESNEXT = replace(DETECTRON_RESNEXT, name="detectron2-resnext", names="detectron2")

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        SLIM_ALEXNET,
        SLIM_V1,
        SLIM_V2,
        KERAS_V1,
        KERAS_V2,
        KERAS2_V1,
        KERAS2_V2,
        KERAS_RESNEXT,
        KERAS_OLD,
        KERAS_LISTS,
        TORCHVISION_V1,
        TORCHVISION_ALEXNET,
        TIMM_V1,
        TIMM_PREACT,
        TIMM_PREACT_BASIC,
        PAPER_V1,
        PAPER_V1_A,
        PAPER_V1_C,
        PAPER_V2,
        PAPER_V2_A,
        PAPER_V2_IMAGENET,
        PAPER_RESNEXT,
        PAPER_CIFAR,
        PAPER_CIFAR_B,
        PAPER_CIFAR_RESNEXT,
        TORCHVISION_CIFAR,
        WEIAICUNZAI,
        PADDLE,
        DETECTRON,
        DETECTRON_RESNEXT,
        DETECTRON2,
        DETECTRON2_RESNEXT,
    )
}
