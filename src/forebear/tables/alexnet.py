"""AlexNet "v2", the single-tower network of Krizhevsky 2014 (One weird trick, arXiv 1404.5997).

Two networks have that name, and their weights are not compatible. TF-Slim's has 384 channels in
conv4, and its fc6 takes a 5x5 map. torchvision's has 256 channels in conv4 and a padded conv1, and
its fc6 takes a 6x6 map from an average pool.
"""

from __future__ import annotations

from forebear.tables.rows import Average, Conv, Dropout, Pool, Table

KRIZHEVSKY_2014 = "Krizhevsky 2014 (arXiv 1404.5997)"

# tf_slim/nets/alexnet.py, alexnet_v2. Dropout follows fc6 and fc7; only conv2 to conv5 are padded.
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
