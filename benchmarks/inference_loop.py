"""Classifies a folder as the scripts of torchvision and timm do; prints the seconds of the loop."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from inference_contenders import add_torchvision_operators
from PIL import Image
from torch.utils.data import DataLoader, Dataset

add_torchvision_operators()
import timm  # noqa: E402


class Images(Dataset[Any]):
    def __init__(self, folder: Path, transform: Any) -> None:
        self.paths, self.transform = sorted(folder.iterdir()), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Any:
        return self.transform(Image.open(self.paths[place]).convert("RGB"))


def main() -> None:
    model = timm.create_model("resnet18").eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    loader = DataLoader(Images(Path(sys.argv[1]), transform), batch_size=16, num_workers=2)
    start = time.perf_counter()
    found = []
    with torch.inference_mode():
        for batch in loader:
            found.append(model(batch).softmax(1).topk(5))
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
