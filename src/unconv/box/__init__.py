"""The network that ships with unconv: a small VGG trained on Caltech-101, and photographs to try it on.

Trained by `training/caltech.py`; weights, classes and licences are in this folder.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

HERE = Path(__file__).parent
WEIGHTS = HERE / "caltech.safetensors"
PICTURES = HERE / "pictures"

WIDTHS = (32, 48, 96, 192, 288)
SIZE, RESIZE = 96, 108
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Caltech(nn.Module):
    """Five blocks of two 3x3 convolutions with ReLU and a 2x2 max pool, then global average pooling and a linear classifier."""

    def __init__(self, classes: int = 101):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in WIDTHS:
            for _ in range(2):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, image):  # type: ignore[no-untyped-def]
        """Return the scores (N, classes) of normalised pictures (N, 3, 96, 96)."""
        return self.classifier(self.pool(self.features(image)).flatten(1))


def demo_pictures() -> list[Path]:
    """Return the photographs that ship with unconv, sorted by name."""
    return sorted(PICTURES.glob("*.jpg"))
