"""Naming schemes: the names of layers in the original libraries, as tables of templates.

One template covers all layers of a role. The plan fills its slots:
    {net} the name of the table   {block} {unit} {layer} forebear's names
    {form} bottleneck_v1 and similar
    {b} {u} {n} indices of the block, unit and convolution, from 1
    {B} = b + 1, {m} = n + 1, {w} = b - 1, {v} = u - 1, {l} = n - 1
    {i} = 3 (n - 1), {j} = i + 1: places in a sequence of convolutions, norms and ReLUs
    {g} index of the unit through all blocks, from 0; {kind} BottleneckResNetBlock or ResNetBlock
    {letter} {branch} the unit and the convolution as letters, as in Caffe
    {row} {out} the names of the layer and of its ReLU in `rows` and `outs`
Each role has up to three parts: the convolution, the norm and the output of the layer. Weight names
(`forebear.weights.variable_names`) and end points both use these templates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Role = Literal[
    "root",
    "pool1",
    "layer",
    "preact",
    "conv",
    "shortcut",
    "unit",
    "block",
    "postnorm",
    "pool",
    "logits",
]
Part = Literal["conv", "norm", "out"]
Slots = dict[str, str]


@dataclass(frozen=True, slots=True)
class NamingScheme:
    """The naming scheme of one library."""

    scopes: dict[tuple[Role, Part], str]
    parts: tuple[Part, ...] = ("conv", "norm", "out")  # the parts that are end points there
    rows: dict[str, str] = field(default_factory=dict)  # layer to its name there, if irregular
    outs: dict[str, str] = field(default_factory=dict)  # layer to the name of its output there
    other_logits: tuple[str, ...] = ()  # additional scopes of the logits in published checkpoints


# tf_slim 1.1.0: the norm of a convolution is in its scope, a pre-activation has its own scope.
# fmt: off
_SLIM = NamingScheme(
    {
        ("root", "conv"):     "{net}/{layer}",
        ("root", "norm"):     "{net}/{layer}/BatchNorm",
        ("root", "out"):      "{net}/{layer}",
        ("pool1", "out"):     "{net}/{layer}",
        ("layer", "conv"):    "{net}/{layer}",
        ("layer", "norm"):    "{net}/{layer}/BatchNorm",
        ("layer", "out"):     "{net}/{layer}",
        ("preact", "norm"):   "{net}/{block}/{unit}/{form}/preact",
        ("preact", "out"):    "{net}/{block}/{unit}/{form}/preact",
        ("shortcut", "conv"): "{net}/{block}/{unit}/{form}/shortcut",
        ("shortcut", "norm"): "{net}/{block}/{unit}/{form}/shortcut/BatchNorm",
        ("shortcut", "out"):  "{net}/{block}/{unit}/{form}/shortcut",
        ("conv", "conv"):     "{net}/{block}/{unit}/{form}/conv{n}",
        ("conv", "norm"):     "{net}/{block}/{unit}/{form}/conv{n}/BatchNorm",
        ("conv", "out"):      "{net}/{block}/{unit}/{form}/conv{n}",
        ("unit", "out"):      "{net}/{block}/{unit}/{form}",
        ("block", "out"):     "{net}/{block}",
        ("postnorm", "norm"): "{net}/postnorm",
        ("postnorm", "out"):  "{net}/postnorm",
        ("pool", "out"):      "global_pool",
        ("logits", "conv"):   "{net}/logits",
        ("logits", "out"):    "{net}/logits",
    },
    parts=("out",),
)
_SLIM_ALEXNET = NamingScheme(
    _SLIM.scopes | {("logits", "conv"): "{net}/fc8", ("logits", "out"): "{net}/fc8"},
    parts=("out",),
)
# keras/src/applications/resnet.py; keras-applications 1.0.8 calls the logits probs.
_KERAS = NamingScheme(
    {
        ("root", "conv"):     "{layer}_conv",
        ("root", "norm"):     "{layer}_bn",
        ("root", "out"):      "{layer}_relu",
        ("pool1", "out"):     "{layer}_pool",
        ("preact", "norm"):   "conv{B}_block{u}_preact_bn",
        ("preact", "out"):    "conv{B}_block{u}_preact_relu",
        ("shortcut", "conv"): "conv{B}_block{u}_0_conv",
        ("shortcut", "norm"): "conv{B}_block{u}_0_bn",
        ("conv", "conv"):     "conv{B}_block{u}_{n}_conv",
        ("conv", "norm"):     "conv{B}_block{u}_{n}_bn",
        ("conv", "out"):      "conv{B}_block{u}_{n}_relu",
        ("unit", "out"):      "conv{B}_block{u}_out",
        ("postnorm", "norm"): "post_bn",
        ("postnorm", "out"):  "post_relu",
        ("pool", "out"):      "avg_pool",
        ("logits", "conv"):   "predictions",
        ("logits", "out"):    "predictions",
    },
    other_logits=("probs",),
)
# keras_hub/src/models/resnet/resnet_backbone.py: blocks and units count from 0.
_KERASHUB = NamingScheme(
    _KERAS.scopes | {
        ("preact", "norm"):   "stack{w}_block{v}_pre_activation_bn",
        ("preact", "out"):    "stack{w}_block{v}_pre_activation_relu",
        ("shortcut", "conv"): "stack{w}_block{v}_0_conv",
        ("shortcut", "norm"): "stack{w}_block{v}_0_bn",
        ("conv", "conv"):     "stack{w}_block{v}_{n}_conv",
        ("conv", "norm"):     "stack{w}_block{v}_{n}_bn",
        ("conv", "out"):      "stack{w}_block{v}_{n}_relu",
        ("unit", "out"):      "stack{w}_block{v}_out",
        ("pool", "out"):      "pooler",
    },
)
# keras-applications resnet50.py: Caffe's names.
_KERAS_OLD = NamingScheme(
    {
        ("root", "conv"):     "{layer}",
        ("root", "norm"):     "bn_{layer}",
        ("pool1", "out"):     "max_pooling2d",
        ("shortcut", "conv"): "res{B}{letter}_branch1",
        ("shortcut", "norm"): "bn{B}{letter}_branch1",
        ("conv", "conv"):     "res{B}{letter}_branch2{branch}",
        ("conv", "norm"):     "bn{B}{letter}_branch2{branch}",
        ("pool", "out"):      "avg_pool",
        ("logits", "conv"):   "fc1000",
        ("logits", "out"):    "fc1000",
    },
)
# torchvision/models/resnet.py and timm/models/resnet.py.
_TORCHVISION = NamingScheme(
    {
        ("root", "conv"):     "conv1",
        ("root", "norm"):     "bn1",
        ("root", "out"):      "relu",
        ("pool1", "out"):     "maxpool",
        ("preact", "norm"):   "layer{b}.{v}.preact",
        ("shortcut", "conv"): "layer{b}.{v}.downsample.0",
        ("shortcut", "norm"): "layer{b}.{v}.downsample.1",
        ("shortcut", "out"):  "layer{b}.{v}.downsample",
        ("conv", "conv"):     "layer{b}.{v}.conv{n}",
        ("conv", "norm"):     "layer{b}.{v}.bn{n}",
        ("unit", "out"):      "layer{b}.{v}",
        ("block", "out"):     "layer{b}",
        ("postnorm", "norm"): "norm",
        ("pool", "out"):      "avgpool",
        ("logits", "conv"):   "fc",
        ("logits", "out"):    "fc",
    },
)
_TORCHVISION_ALEXNET = NamingScheme(
    {
        ("root", "conv"):     "{row}",
        ("root", "out"):      "{out}",
        ("layer", "conv"):    "{row}",
        ("layer", "out"):     "{out}",
        ("logits", "conv"):   "classifier.6",
        ("logits", "out"):    "classifier.6",
    },
    rows={
        "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8",
        "conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4",
    },
    outs={
        "conv1": "features.1", "pool1": "features.2", "conv2": "features.4", "pool2": "features.5",
        "conv3": "features.7", "conv4": "features.9", "conv5": "features.11",
        "pool5": "features.12", "average": "avgpool", "fc6": "classifier.2", "fc7": "classifier.5",
    },
)
# timm/models/resnetv2.py: the norm before convolution n + 1 is the one after convolution n.
_TIMM_V2 = NamingScheme(
    {
        ("root", "conv"):     "stem.conv",
        ("pool1", "out"):     "stem.pool",
        ("preact", "norm"):   "stages.{w}.blocks.{v}.norm1",
        ("shortcut", "conv"): "stages.{w}.blocks.{v}.downsample.conv",
        ("conv", "conv"):     "stages.{w}.blocks.{v}.conv{n}",
        ("conv", "norm"):     "stages.{w}.blocks.{v}.norm{m}",
        ("unit", "out"):      "stages.{w}.blocks.{v}",
        ("block", "out"):     "stages.{w}",
        ("postnorm", "norm"): "norm",
        ("postnorm", "out"):  "norm",
        ("pool", "out"):      "head.global_pool",
        ("logits", "conv"):   "head.fc",
        ("logits", "out"):    "head.fc",
    },
)
# akamaster/pytorch_resnet_cifar10, resnet.py; pre-activations extend its naming scheme.
_CIFAR = NamingScheme(
    _TORCHVISION.scopes | {
        ("preact", "norm"):   "layer{b}.{v}.bn0",
        ("shortcut", "conv"): "layer{b}.{v}.shortcut.0",
        ("shortcut", "norm"): "layer{b}.{v}.shortcut.1",
        ("shortcut", "out"):  "layer{b}.{v}.shortcut",
        ("postnorm", "norm"): "bn",
        ("logits", "conv"):   "linear",
        ("logits", "out"):    "linear",
    },
)
# transformers/models/resnet/modeling_resnet.py, ResNetForImageClassification.
_STAGE = "resnet.encoder.stages.{w}.layers.{v}"
_TRANSFORMERS = NamingScheme(
    {
        ("root", "conv"):     "resnet.embedder.embedder.convolution",
        ("root", "norm"):     "resnet.embedder.embedder.normalization",
        ("pool1", "out"):     "resnet.embedder.pooler",
        ("shortcut", "conv"): f"{_STAGE}.shortcut.convolution",
        ("shortcut", "norm"): f"{_STAGE}.shortcut.normalization",
        ("conv", "conv"):     f"{_STAGE}.layer.{{l}}.convolution",
        ("conv", "norm"):     f"{_STAGE}.layer.{{l}}.normalization",
        ("unit", "out"):      _STAGE,
        ("block", "out"):     "resnet.encoder.stages.{w}",
        ("pool", "out"):      "resnet.pooler",
        ("logits", "conv"):   "classifier.1",
        ("logits", "out"):    "classifier.1",
    },
)
# facebookresearch/Detectron, and Caffe2's networks: the norm of a convolution has its own name.
_CAFFE2 = NamingScheme(
    {
        ("root", "conv"):     "conv1",
        ("root", "norm"):     "res_conv1_bn",
        ("shortcut", "conv"): "res{B}_{v}_branch1",
        ("shortcut", "norm"): "res{B}_{v}_branch1_bn",
        ("conv", "conv"):     "res{B}_{v}_branch2{branch}",
        ("conv", "norm"):     "res{B}_{v}_branch2{branch}_bn",
        ("logits", "conv"):   "fc1000",
        ("logits", "out"):    "fc1000",
    },
    other_logits=("pred",),
)
# detectron2/modeling/backbone/resnet.py.
_DETECTRON2 = NamingScheme(
    {
        ("root", "conv"):     "stem.conv1",
        ("root", "norm"):     "stem.conv1.norm",
        ("shortcut", "conv"): "res{B}.{v}.shortcut",
        ("shortcut", "norm"): "res{B}.{v}.shortcut.norm",
        ("conv", "conv"):     "res{B}.{v}.conv{n}",
        ("conv", "norm"):     "res{B}.{v}.conv{n}.norm",
        ("unit", "out"):      "res{B}.{v}",
        ("block", "out"):     "res{B}",
        ("logits", "conv"):   "linear",
        ("logits", "out"):    "linear",
    },
)
# weiaicunzai/pytorch-cifar100, models/resnet.py.
_WEIAICUNZAI = NamingScheme(
    {
        ("root", "conv"):     "conv1.0",
        ("root", "norm"):     "conv1.1",
        ("shortcut", "conv"): "conv{B}_x.{v}.shortcut.0",
        ("shortcut", "norm"): "conv{B}_x.{v}.shortcut.1",
        ("shortcut", "out"):  "conv{B}_x.{v}.shortcut",
        ("conv", "conv"):     "conv{B}_x.{v}.residual_function.{i}",
        ("conv", "norm"):     "conv{B}_x.{v}.residual_function.{j}",
        ("unit", "out"):      "conv{B}_x.{v}",
        ("block", "out"):     "conv{B}_x",
        ("pool", "out"):      "avg_pool",
        ("logits", "conv"):   "fc",
        ("logits", "out"):    "fc",
    },
)
# flax, examples/imagenet/models.py: units count from 0 through all blocks.
_FLAX = NamingScheme(
    {
        ("root", "conv"):     "conv_init",
        ("root", "norm"):     "bn_init",
        ("shortcut", "conv"): "{kind}_{g}/conv_proj",
        ("shortcut", "norm"): "{kind}_{g}/norm_proj",
        ("conv", "conv"):     "{kind}_{g}/Conv_{l}",
        ("conv", "norm"):     "{kind}_{g}/BatchNorm_{l}",
        ("unit", "out"):      "{kind}_{g}",
        ("logits", "conv"):   "Dense_0",
        ("logits", "out"):    "Dense_0",
    },
)
# transformers 4, models/resnet/modeling_flax_resnet.py: the names of the other class.
_TRANSFORMERS_FLAX = NamingScheme(
    {role: template.replace(".", "/") for role, template in _TRANSFORMERS.scopes.items()}
)
# fmt: on
NAMING_SCHEMES: dict[str, NamingScheme] = {
    "slim": _SLIM,
    "slim-alexnet": _SLIM_ALEXNET,
    "keras": _KERAS,
    "keras-old": _KERAS_OLD,
    "kerashub": _KERASHUB,
    "torchvision": _TORCHVISION,
    "torchvision-alexnet": _TORCHVISION_ALEXNET,
    "timm": _TORCHVISION,
    "timm-v2": _TIMM_V2,
    "cifar": _CIFAR,
    "transformers": _TRANSFORMERS,
    "weiaicunzai": _WEIAICUNZAI,
    "paddle": _TORCHVISION,
    "caffe2": _CAFFE2,
    "detectron2": _DETECTRON2,
    "flax": _FLAX,
    "transformers-flax": _TRANSFORMERS_FLAX,
}
