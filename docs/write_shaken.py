"""Draw docs/images/shaken.png: the README's example on the entire photograph, before and after."""

from __future__ import annotations

from pathlib import Path

import torch

from unconv.box import demo_pictures
from unconv.inverse import Convolution, psf
from unconv.inverse.fields.image import restore as image
from unconv.pictures.measured import measured

photo = measured(demo_pictures()[1]).samples
blur = Convolution(psf.motion(15, 30), photo.shape, "unknown")
noise = 2 * torch.randn(blur.shape_out, generator=torch.Generator().manual_seed(0))
shaken = (blur.forward(photo) + noise).clamp(0, 255).round().byte()
restored = image.deblur(shaken, psf.motion(15, 30))
restored.comparison().save(Path(__file__).parent / "images" / "shaken.png", optimize=True)
