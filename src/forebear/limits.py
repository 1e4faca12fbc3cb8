"""Upper limits of what a file may ask for. docs/security.md lists them.

They are far above what published networks and photographs need, and far below the memory of a
machine. A file that asks for more is refused before anything of that size is allocated.
"""

from __future__ import annotations

MIB = 2**20

# Files
TEXT_BYTES = 16 * MIB  # of a JSON or TOML file: settings, a table, a recipe, a config
NESTING = 64  # levels of lists and objects in JSON and TOML
METRICS_BYTES = 256 * MIB  # of metrics.jsonl; an epoch takes about 2 kB
TABLE_BYTES = 256 * MIB  # of a CSV file

# Images
IMAGE_BYTES = 256 * MIB  # of one encoded image
IMAGE_PIXELS = 64_000_000  # of one image; a 64-megapixel image takes 256 MB as Pillow's RGB
# Decoders that take more memory than the image itself, by format: so many pixels take 300 MB
PIXELS_OF = {"WEBP": 18_000_000, "JPEG2000": 12_000_000, "AVIF": 25_000_000}
PROGRESSIVE_PIXELS = 40_000_000  # of a progressive JPEG
DIRECT_PIXELS = 16_000_000  # above, an image is converted through a temporary file
DECODE_BYTES = 280_000_000  # of all images that are being decoded at a time, or the next if larger
DECODE_BYTES_PER_CORE = 75_000_000
IMAGE_CHANNELS = 256  # of one image; hyperspectral sensors have about 200
INPUT_SIDE = 8_192  # pixels: largest input size of a network, and side of a resize

# Data sets
DATA_BYTES = 64 * 2**30  # of all arrays that are read into memory; the machine's memory also limits
UNPACKED_RATIO = 100  # of the size of an archive's content to that of the archive
SHARD_MEMBERS = 10_000_000  # files in a tar shard
ROWS = 100_000_000  # of a Parquet file
CLASSES = 100_000  # ImageNet-21k has 21,843
CLASS_NAME = 1_000  # characters

# Tables
TABLE_UNITS = 10_000  # units and rows of a table, together
CHANNELS = 100_000  # of one layer
KERNEL = 1_000  # pixels: side of a kernel or a pool, and its stride, padding or rate
TABLE_CONVS = 50_000  # convolutions in all units of a table, together
UNIT_CONVS = 100  # convolutions in one unit
TABLE_NAME = 200  # characters: name of a table, a row or a dialect
TABLE_SOURCE = 2_000  # characters
PARAMETERS = 2**30  # values of a network; BiT's ResNet-152x4, the largest known, has 9.4e8
MAP_VALUES = 2**26  # of one feature map for one image: 256 MiB in float32, and in addition
MAP_GROWTH = 32  # times the values of the network, so that a large file may have large inputs

# Preprocessing
NUMBER = 1e9  # of a scale, mean or std; the smallest scale and std is 1 / NUMBER

# Engines
GRAPHS = 16  # networks whose graphs are kept in the cache; the oldest are deleted first
GRAPHS_BYTES = 4 * 2**30  # of these graphs together

# Requests to forebear serve
REQUEST_BYTES = 64 * MIB  # of a body
REQUEST_IMAGES = 64  # of one request

# Weights
ARRAYS = 100_000  # arrays in a checkpoint; ResNet-1202 has 7,215
ARRAY_NAME = 1_000  # characters
PICKLE_BYTES = 16 * MIB  # ResNet-1202's state dict has 1.3 MB of pickle
PICKLED_ARRAYS_BYTES = 4 * 2**30  # of a pickle of numpy arrays, which is read into memory
PICKLE_OBJECTS = 1_000_000  # lists, tuples, dicts and others; a tensor takes 5
OBJECT_GRAPH_BYTES = 16 * MIB  # of a TF2 checkpoint; ResNet-152 with Adam has 0.3 MB
OBJECTS = 500_000  # objects of a TF2 checkpoint, and references between them
LAYERS_BYTES = 64 * MIB  # of the layers' description in a SavedModel of Keras
GRAPH_NODES = 100_000  # of an ONNX graph; ResNet-1202 has 4,000
TORCH7_OBJECTS = 1_000_000  # of a .t7 file; ResNet-200 has fewer than 50,000
TORCH7_NESTING = 200  # tables and objects in one another; a ResNet has about 30
MSGPACK_VALUES = 500_000  # of a Flax file; a training state of ResNet-200 has about 10,000
