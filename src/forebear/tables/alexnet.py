"""AlexNet "v2", the single-tower network of Krizhevsky 2014 (One weird trick, arXiv 1404.5997).

Two networks go by that name, and their weights do not fit each other: TF-Slim's (384 channels in
conv4, fc6 on a 5x5 map) and torchvision's (256 in conv4, padded conv1, fc6 on an averaged 6x6 map).
"""

from __future__ import annotations

from forebear.tables.rows import Average, Conv, Dropout, Pool, Table

KRIZHEVSKY_2014 = "Krizhevsky 2014 (arXiv 1404.5997)"

# tf_slim/nets/alexnet.py, alexnet_v2. Dropout follows fc6 and fc7; unpadded but for conv2 to conv5.
# fmt: off
ALEXNET_V2 = Table("alexnet_v2", root=(Conv("conv1", 64, 11, stride=4, padding=0),), layers=(
    Pool("pool1", padding="valid"),
    Conv("conv2", 192, 5),
    Pool("pool2", padding="valid"),
    Conv("conv3", 384, 3),
    Conv("conv4", 384, 3),
    Conv("conv5", 256, 3),
    Pool("pool5", padding="valid"),
    Conv("fc6", 4096, 5, padding=0),
    Dropout("dropout6"),
    Conv("fc7", 4096, 1, padding=0),
    Dropout("dropout7"),
), source=KRIZHEVSKY_2014)
# torchvision/models/alexnet.py. Dropout comes before fc6 and fc7.
ALEXNET = Table("alexnet", root=(Conv("conv1", 64, 11, stride=4, padding=2),), layers=(
    Pool("pool1", padding="valid"),
    Conv("conv2", 192, 5),
    Pool("pool2", padding="valid"),
    Conv("conv3", 384, 3),
    Conv("conv4", 256, 3),
    Conv("conv5", 256, 3),
    Pool("pool5", padding="valid"),
    Average("average", side=6),
    Dropout("dropout6"),
    Conv("fc6", 4096, 6, padding=0),
    Dropout("dropout7"),
    Conv("fc7", 4096, 1, padding=0),
), source=KRIZHEVSKY_2014)
# fmt: on
