"""What libraries have published of their weights: file names, hashes, accuracies and preprocessing.

The sources are TF-Slim's README in tensorflow/models (research/slim); WEIGHTS_HASHES and the README
of keras-applications 1.0.8; the weights enums of torchvision 0.29.2; the default configurations of
timm 1.0.31 and its results-imagenet.csv; and akamaster/pytorch_resnet_cifar10.

Only resnet20-12fca82f.th was available for a check. The following is therefore not verified: that
the URLs still work (TF-Slim's README lists http URLs, and the revision on the Hub is the latest
one), and that the eight digits in timm's file names are the start of the SHA-256, as in torch.hub.
Keras does not publish how images are resized: `tested` has its size, 299 pixels for version 2, and
forebear's resize. The accuracy of ResNeXt-101 32x48d is None, as results-imagenet.csv has no row of
it (revision aa4b585 of August 2026). TF-Slim, Keras and torchvision state a licence for their code,
but none for the weights.
"""

from __future__ import annotations

from typing import NamedTuple

from forebear.tables import preprocessing
from forebear.tables.preprocessing import Preprocessing

TORCHVISION_FOLDER = "https://download.pytorch.org/models/"
TORCHVISION_LICENCE = "BSD-3-Clause"
# fmt: off
SLIM_FILES = (  # network, date, top-1, top-5
    ("resnet_v1_50",  "2016_08_28", 75.2, 92.2),
    ("resnet_v1_101", "2016_08_28", 76.4, 92.9),
    ("resnet_v1_152", "2016_08_28", 76.8, 93.2),
    ("resnet_v2_50",  "2017_04_14", 75.6, 92.8),
    ("resnet_v2_101", "2017_04_14", 77.0, 93.7),
    ("resnet_v2_152", "2017_04_14", 77.8, 94.1),
)
KERAS_FILES = (  # network, MD5, top-1, top-5, MD5 of the file without the logits
    ("ResNet50",    "2cb95161c43110f7111970584f804107", 74.928, 92.060,
     "4d473c1dd8becc155b73f8504c6f6626"),
    ("ResNet101",   "f1aeb4b969a6efcfb50fad2f0c20cfc5", 76.420, 92.786,
     "88cf7a10940856eca736dc7b7e228a21"),
    ("ResNet152",   "100835be76be38e30d865e96f2aaae62", 76.604, 93.118,
     "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    ("ResNet50V2",  "3ef43a0b657b3be2300d5770ece849e0", 75.960, 93.034,
     "fac2f116257151a9d068a22e544a4917"),
    ("ResNet101V2", "6343647c601c52e1368623803854d971", 77.234, 93.816,
     "c0ed64b8031c3730f411d2eb4eea35b5"),
    ("ResNet152V2", "a49b44d1979771252814e80f8ec446f9", 78.032, 94.162,
     "ed17cf2e0169df9d443503ef94b23b33"),
    ("ResNeXt50",   "67a5b30d522ed92f75a1f16eef299d1a", 77.740, 93.810,
     "62527c363bdd9ec598bed41947b379fc"),
    ("ResNeXt101",  "34fb605428fcc7aa4d62f44404c11509", 78.730, 94.294,
     "0f678c91647380debd923963594981b3"),
    ("ResNet50_old", "a7b3fe01876f51b976af0dea6bc144eb", 74.928, 92.060,
     "a268eb855778b3df3c7506639542a6af"),
)
TORCHVISION_FILES = (  # network, version, file, shorter side, top-1, top-5, MiB
    ("alexnet",          "V1", "alexnet-owt-7be5be79.pth",            256, 56.522, 79.066, 233.087),
    ("resnet18",         "V1", "resnet18-f37072fd.pth",               256, 69.758, 89.078, 44.661),
    ("resnet34",         "V1", "resnet34-b627a593.pth",               256, 73.314, 91.420, 83.275),
    ("resnet50",         "V1", "resnet50-0676ba61.pth",               256, 76.130, 92.862, 97.781),
    ("resnet50",         "V2", "resnet50-11ad3fa6.pth",               232, 80.858, 95.434, 97.790),
    ("resnet101",        "V1", "resnet101-63fe2227.pth",              256, 77.374, 93.546, 170.511),
    ("resnet101",        "V2", "resnet101-cd907fc2.pth",              232, 81.886, 95.780, 170.530),
    ("resnet152",        "V1", "resnet152-394f9c45.pth",              256, 78.312, 94.046, 230.434),
    ("resnet152",        "V2", "resnet152-f82ba261.pth",              232, 82.284, 96.002, 230.474),
    ("resnext50_32x4d",  "V1", "resnext50_32x4d-7cdf4587.pth",        256, 77.618, 93.698, 95.789),
    ("resnext50_32x4d",  "V2", "resnext50_32x4d-1a0047aa.pth",        232, 81.198, 95.340, 95.833),
    ("resnext101_32x8d", "V1", "resnext101_32x8d-8ba56ff5.pth",       256, 79.312, 94.526, 339.586),
    ("resnext101_32x8d", "V2", "resnext101_32x8d-110c445d.pth",       232, 82.834, 96.228, 339.673),
    ("resnext101_64x4d", "V1", "resnext101_64x4d-173b62eb.pth",       232, 83.246, 96.454, 319.318),
    ("wide_resnet50_2",  "V1", "wide_resnet50_2-95faca4d.pth",        256, 78.468, 94.086, 131.820),
    ("wide_resnet50_2",  "V2", "wide_resnet50_2-9ba9bcbe.pth",        232, 81.602, 95.758, 263.124),
    ("wide_resnet101_2", "V1", "wide_resnet101_2-32ee1156.pth",       256, 78.848, 94.284, 242.896),
    ("wide_resnet101_2", "V2", "wide_resnet101_2-d733dc28.pth",       232, 82.510, 96.020, 484.747),
)
CIFAR_FILES = (  # depth, SHA-256 (for 110 and 1202 only its start), error in percent
    (20,   "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8", 8.27),
    (32,   "d509ac1820d7f25398913559d7e81a13229b1e7adc5648e3bfa5e22dc137f850", 7.37),
    (44,   "014dd6541728a1c700b1642ab640e211dc6eb8ed507d70697458dc8f8a0ae2e4", 6.90),
    (56,   "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367", 6.61),
    (110,  "1d1ed7c2", 6.32),
    (1202, "f3b1deed", 6.18),
)
# fmt: on


class TimmKind(NamedTuple):
    """The common properties of timm's checkpoints of one recipe."""

    tag: str
    prefix: str  # of the URLs; "" if the file is only on the Hub
    base: Preprocessing  # interpolation, mean and standard deviation
    view: tuple[int, float]  # crop size in pixels, and its fraction of the shorter side
    test: tuple[int, float]  # the same for the published accuracy
    licence: str | None = "Apache-2.0"


_RELEASES = "https://github.com/huggingface/pytorch-image-models/releases/download"
_RSB, _RW = f"{_RELEASES}/v0.1-rsb-weights/", f"{_RELEASES}/v0.1-weights/"
_TPU = f"{_RELEASES}/v0.1-tpu-weights/"
_GLUON = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/gluon_"
_FB = "https://dl.fbaipublicfiles.com/semiweaksupervision/model_files"
_SSL, _SWSL = f"{_FB}/semi_supervised_", f"{_FB}/semi_weakly_supervised_"
_LINEAR, _CUBIC, _HALF = preprocessing.TORCHVISION, preprocessing.TIMM, preprocessing.TIMM_V2
_TV, _BSD, _NC = TORCHVISION_FOLDER, TORCHVISION_LICENCE, "CC-BY-NC-4.0"
# fmt: off
TIMM_KINDS = {
    "a1":      TimmKind("a1_in1k",  _RSB, _CUBIC, (224, 0.95), (288, 1.0)),
    "a2":      TimmKind("a2_in1k",  _RSB, _CUBIC, (224, 0.95), (288, 1.0)),
    "a3":      TimmKind("a3_in1k",  _RSB, _CUBIC, (160, 0.95), (224, 0.95)),
    "a1h":     TimmKind("a1h_in1k", _RSB, _CUBIC, (224, 0.95), (288, 1.0)),
    "a1h-176": TimmKind("a1h_in1k", _RSB, _CUBIC, (176, 0.9),  (224, 1.0)),
    "a1h-v2":  TimmKind("a1h_in1k", "",   _HALF,  (224, 0.95), (288, 1.0)),
    "b1k":     TimmKind("b1k_in1k", _RSB, _CUBIC, (224, 0.95), (288, 1.0)),
    "b2k":     TimmKind("b2k_in1k", _RSB, _CUBIC, (224, 0.95), (288, 1.0)),
    "c1":      TimmKind("c1_in1k",  _RSB, _CUBIC, (224, 0.95), (288, 1.0)),
    "c1-tpu":  TimmKind("c1_in1k",  _TPU, _CUBIC, (224, 0.95), (288, 1.0)),
    "c2":      TimmKind("c2_in1k",  _RSB, _CUBIC, (224, 0.95), (288, 1.0)),
    "d":       TimmKind("d_in1k",   _RSB, _CUBIC, (224, 0.95), (288, 1.0)),
    "ra4":     TimmKind("ra4_e3600_r224_in1k", "", _HALF, (224, 0.9), (288, 1.0)),
    "am":      TimmKind("am_in1k",   _RW, _CUBIC, (224, 0.875), (224, 0.875)),
    "bt":      TimmKind("bt_in1k",   _RW, _CUBIC, (224, 0.875), (288, 0.95)),
    "ra":      TimmKind("ra_in1k",   _RW, _CUBIC, (224, 0.875), (288, 0.95)),
    "ram":     TimmKind("ram_in1k",  _RW, _CUBIC, (224, 0.875), (288, 0.95)),
    "racm":    TimmKind("racm_in1k", _RW, _CUBIC, (224, 0.875), (288, 0.95)),
    "bamboo":  TimmKind("bamboo", "", _CUBIC, (224, 1.0), (224, 1.0), None),
    "gluon":   TimmKind("gluon_in1k", _GLUON, _CUBIC, (224, 0.875), (224, 0.875)),
    "tv":      TimmKind("tv_in1k",  _TV, _LINEAR, (224, 0.875), (224, 0.875), _BSD),
    "tv2":     TimmKind("tv2_in1k", _TV, _LINEAR, (176, 0.875), (224, 0.965), _BSD),
    "ssl":     TimmKind("fb_ssl_yfcc100m_ft_in1k", _SSL, _LINEAR, (224, 0.875), (224, 0.875), _NC),
    "swsl":    TimmKind("fb_swsl_ig1b_ft_in1k", _SWSL, _LINEAR, (224, 0.875), (224, 0.875), _NC),
    "wsl":     TimmKind("fb_wsl_ig1b_ft_in1k", _TV, _LINEAR, (224, 0.875), (224, 0.875), _NC),
}
TIMM_FILES = (  # network, kind, the URL after the kind's prefix, top-1, top-5
    ("resnet18",         "a1",      "resnet18_a1_0-d63eafa0.pth",           73.164, 91.054),
    ("resnet18",         "a2",      "resnet18_a2_0-b61bd467.pth",           72.364, 90.620),
    ("resnet18",         "a3",      "resnet18_a3_0-40c531c8.pth",           68.250, 88.172),
    ("resnet18",         "ssl",     "resnet18-d92f0530.pth",                72.636, 91.416),
    ("resnet18",         "swsl",    "resnet18-118f1556.pth",                73.286, 91.754),
    ("resnet18",         "gluon",   "resnet18_v1b-0757602b.pth",            70.844, 89.750),
    ("resnet18",         "tv",      "resnet18-f37072fd.pth",                69.752, 89.082),
    ("resnet34",         "a1",      "resnet34_a1_0-46f8f793.pth",           77.930, 93.758),
    ("resnet34",         "a2",      "resnet34_a2_0-82d47d71.pth",           77.150, 93.288),
    ("resnet34",         "a3",      "resnet34_a3_0-a20cabb6.pth",           72.996, 91.116),
    ("resnet34",         "gluon",   "resnet34_v1b-c6d82d59.pth",            74.574, 91.988),
    ("resnet34",         "tv",      "resnet34-b627a593.pth",                73.298, 91.422),
    ("resnet34",         "bt",      "resnet34-43635321.pth",                76.506, 93.342),
    ("resnet34",         "ra4",     "",                                     78.972, 94.454),
    ("resnet50",         "a1",      "resnet50_a1_0-14fe96d1.pth",           81.240, 95.112),
    ("resnet50",         "a2",      "resnet50_a2_0-a2746f79.pth",           80.774, 94.978),
    ("resnet50",         "a3",      "resnet50_a3_0-59cae1ef.pth",           78.052, 93.780),
    ("resnet50",         "ssl",     "resnet50-08389792.pth",                79.252, 94.826),
    ("resnet50",         "swsl",    "resnet50-16a12f1b.pth",                81.146, 95.980),
    ("resnet50",         "gluon",   "resnet50_v1b-0ebe02e2.pth",            77.580, 93.704),
    ("resnet50",         "tv",      "resnet50-0676ba61.pth",                76.156, 92.866),
    ("resnet50",         "bt",      "rw_resnet50-86acaeed.pth",             79.652, 94.908),
    ("resnet50",         "a1h-176", "resnet50_a1h2_176-001a1197.pth",       80.654, 95.312),
    ("resnet50",         "am",      "resnet50_am-6c502b37.pth",             79.004, 94.392),
    ("resnet50",         "b1k",     "resnet50_b1k-532a802a.pth",            80.708, 95.430),
    ("resnet50",         "b2k",     "resnet50_b2k-1ba180c1.pth",            80.466, 95.306),
    ("resnet50",         "bamboo",  "",                                     None, None),
    ("resnet50",         "c1",      "resnet50_c1-5ba5e060.pth",             80.928, 95.554),
    ("resnet50",         "c2",      "resnet50_c2-d01e05b2.pth",             80.862, 95.530),
    ("resnet50",         "d",       "resnet50_d-f39db8af.pth",              81.012, 95.456),
    ("resnet50",         "ra",      "resnet50_ra-85ebb6e5.pth",             79.864, 94.970),
    ("resnet50",         "ram",     "resnet50_ram-a26f946b.pth",            79.982, 95.038),
    ("resnet50",         "tv2",     "resnet50-11ad3fa6.pth",                80.846, 95.430),
    ("resnet101",        "a1",      "resnet101_a1_0-cdcb52a9.pth",          82.326, 95.630),
    ("resnet101",        "a2",      "resnet101_a2_0-6edb36c7.pth",          82.218, 95.740),
    ("resnet101",        "a3",      "resnet101_a3_0-1db14157.pth",          79.836, 94.608),
    ("resnet101",        "gluon",   "resnet101_v1b-3b017079.pth",           79.306, 94.538),
    ("resnet101",        "tv",      "resnet101-63fe2227.pth",               77.404, 93.552),
    ("resnet101",        "tv2",     "resnet101-cd907fc2.pth",               81.906, 95.768),
    ("resnet101",        "a1h",     "resnet101_a1h-36d3f2aa.pth",           82.796, 96.324),
    ("resnet152",        "a1",      "resnet152_a1_0-2eee8a7a.pth",          82.742, 95.734),
    ("resnet152",        "a2",      "resnet152_a2_0-b4c6978f.pth",          82.614, 95.748),
    ("resnet152",        "a3",      "resnet152_a3_0-134d4688.pth",          80.548, 95.004),
    ("resnet152",        "gluon",   "resnet152_v1b-c1edb0dd.pth",           79.712, 94.720),
    ("resnet152",        "tv",      "resnet152-394f9c45.pth",               78.330, 94.046),
    ("resnet152",        "tv2",     "resnet152-f82ba261.pth",               82.294, 96.000),
    ("resnet152",        "a1h",     "resnet152_a1h-dc400468.pth",           83.494, 96.522),
    ("resnext50_32x4d",  "a1",      "resnext50_32x4d_a1_0-b5a91a1d.pth",    81.480, 95.152),
    ("resnext50_32x4d",  "a2",      "resnext50_32x4d_a2_0-efc76add.pth",    81.304, 95.114),
    ("resnext50_32x4d",  "a3",      "resnext50_32x4d_a3_0-3e450271.pth",    79.258, 94.308),
    ("resnext50_32x4d",  "ssl",     "resnext50_32x4-ddb3e555.pth",          80.316, 95.386),
    ("resnext50_32x4d",  "swsl",    "resnext50_32x4-72679e44.pth",          82.162, 96.224),
    ("resnext50_32x4d",  "gluon",   "resnext50_32x4d-e6a097c1.pth",         79.354, 94.424),
    ("resnext50_32x4d",  "tv",      "resnext50_32x4d-7cdf4587.pth",         77.632, 93.674),
    ("resnext50_32x4d",  "ra",      "resnext50_32x4d_ra-d733960d.pth",      80.720, 95.344),
    ("resnext50_32x4d",  "tv2",     "resnext50_32x4d-1a0047aa.pth",         81.190, 95.344),
    ("resnext50_32x4d",  "a1h",     "resnext50_32x4d_a1h-0146ab0a.pth",     82.016, 95.934),
    ("resnext101_32x4d", "ssl",     "resnext101_32x4-dc43570a.pth",         80.936, 95.732),
    ("resnext101_32x4d", "swsl",    "resnext101_32x4-3f87e46b.pth",         83.268, 96.760),
    ("resnext101_32x4d", "gluon",   "resnext101_32x4d-b253c8c4.pth",        80.336, 94.908),
    ("resnext101_32x8d", "ssl",     "resnext101_32x8-2cfe2f8b.pth",         81.620, 96.036),
    ("resnext101_32x8d", "swsl",    "resnext101_32x8-b4712904.pth",         84.276, 97.188),
    ("resnext101_32x8d", "tv",      "resnext101_32x8d-8ba56ff5.pth",        79.308, 94.530),
    ("resnext101_32x8d", "tv2",     "resnext101_32x8d-110c445d.pth",        82.832, 96.234),
    ("resnext101_32x8d", "wsl",     "ig_resnext101_32x8-c38310e5.pth",      82.720, 96.624),
    ("resnext101_32x16d", "ssl",    "resnext101_32x16-15fffa57.pth",        81.856, 96.084),
    ("resnext101_32x16d", "swsl",   "resnext101_32x16-f3559a9c.pth",        83.340, 96.844),
    ("resnext101_32x16d", "wsl",    "ig_resnext101_32x16-c6f796b0.pth",     84.166, 97.192),
    ("resnext101_32x32d", "wsl",    "ig_resnext101_32x32-e4b90b00.pth",     85.090, 97.442),
    ("resnext101_32x48d", "wsl",    "ig_resnext101_32x48-3e41cc8a.pth",     None, None),
    ("resnext101_64x4d", "gluon",   "resnext101_64x4d-f9a8e184.pth",        80.640, 95.000),
    ("resnext101_64x4d", "tv",      "resnext101_64x4d-173b62eb.pth",        82.978, 96.252),
    ("resnext101_64x4d", "c1-tpu",  "resnext101_64x4d_c-0d0e0cc0.pth",      83.158, 96.370),
    ("wide_resnet50_2",  "tv",      "wide_resnet50_2-95faca4d.pth",         78.486, 94.084),
    ("wide_resnet50_2",  "tv2",     "wide_resnet50_2-9ba9bcbe.pth",         81.612, 95.766),
    ("wide_resnet50_2",  "racm",    "wide_resnet50_racm-8234f177.pth",      82.260, 96.062),
    ("wide_resnet101_2", "tv",      "wide_resnet101_2-32ee1156.pth",        78.862, 94.312),
    ("wide_resnet101_2", "tv2",     "wide_resnet101_2-d733dc28.pth",        82.514, 96.012),
    ("resnetv2_18",      "ra4",     "",                                     75.364, 92.692),
    ("resnetv2_34",      "ra4",     "",                                     79.070, 94.560),
    ("resnetv2_50",      "a1h-v2",  "",                                     81.406, 95.712),
    ("resnetv2_101",     "a1h-v2",  "",                                     83.002, 96.444),
)
TIMM_DEFAULTS = {
    "resnet18": "a1", "resnet34": "a1", "resnet50": "a1", "resnet101": "a1h", "resnet152": "a1h",
    "resnext50_32x4d": "a1h", "resnext101_32x4d": "ssl",
    "resnext101_32x16d": "wsl", "resnext101_32x32d": "wsl", "resnext101_32x48d": "wsl",
    "resnetv2_18": "ra4",
    "resnetv2_34": "ra4", "resnetv2_50": "a1h-v2", "resnetv2_101": "a1h-v2",
}
# fmt: on
