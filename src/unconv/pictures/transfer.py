"""Transfer functions: what takes a photograph's samples to the light that they stand for, and back.

A photograph's samples are not proportional to light, but near its square root, as eyes tell dark shades apart best. What
mixes light, as a blur does, mixes it before that. The functions are those of the ICC's specification (ICC.1:2022, 10.6 and
10.18) and of IEC 61966-2-1 (sRGB).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import ExifTags, Image
from torch import Tensor

from unconv.pictures.metadata import EXIF, Metadata

_SRGB_EXIF = 1  # of EXIF's tag ColorSpace
_TAGS, _ENTRY = 128, 12  # where a profile's list of tags begins, and an entry's length
_TONES = (b"gTRC", b"kTRC")  # of green, of grey
_MOST_TAGS, _MOST_ENTRIES = 256, 65536
_FIXED = 65536.0  # ICC's fixed point
# Which of g, a, b, c, d, e, f each type of parametric curve gives, in its order.
_GIVEN = ("g", "gab", "gabe", "gabcd", "gabcdef")
_FEW = 1e-6  # of light, as nothing is brighter than next to it by less


@dataclass(frozen=True)
class Transfer:
    """A transfer function; by its parameters, or by a table where there is one.

    light = (a x + b)^g + e from x = d on, and c x + f below it, of samples x as shares of white.

    Attributes:
        table: light at samples evenly spaced from 0 to 1, rising.
    """

    g: float = 1.0
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0
    table: tuple[float, ...] = ()

    def light(self, samples: Tensor) -> Tensor:
        """Return the light of samples, both as shares of white."""
        if self.table:
            return self._along(samples, self._even(samples), samples.new_tensor(self.table))
        base = (self.a * samples + self.b).clamp(min=_FEW)
        return torch.where(samples >= self.d, base**self.g + self.e, self.c * samples + self.f)

    def samples(self, light: Tensor) -> Tensor:
        """Return the samples of light, both as shares of white; light below zero, which there is not, is none."""
        light = light.clamp(min=0)
        if self.table:
            return self._along(light, light.new_tensor(self.table), self._even(light))
        above = ((light - self.e).clamp(min=_FEW ** max(self.g, 1.0)) ** (1 / self.g) - self.b) / self.a
        if self.c == 0:
            return above.clamp(min=0)
        return torch.where(light >= self._knee, above, (light - self.f) / self.c)

    def slope(self, samples: Tensor) -> Tensor:
        """Return how fast light grows with samples."""
        step = 1 / 512
        low, high = (samples - step / 2).clamp(min=0), samples + step / 2
        return (self.light(high) - self.light(low)) / (high - low)

    @property
    def plain(self) -> bool:
        """Samples are proportional to light."""
        ends = torch.linspace(0, 1, 33, dtype=torch.float64)
        return bool((self.light(ends) - ends).abs().max() < 1e-3)

    @cached_property
    def _knee(self) -> float:
        """Light where the power begins."""
        return float((self.a * self.d + self.b) ** self.g + self.e)

    def _even(self, like: Tensor) -> Tensor:
        return torch.linspace(0, 1, len(self.table), dtype=like.dtype, device=like.device)

    @staticmethod
    def _along(values: Tensor, places: Tensor, heights: Tensor) -> Tensor:
        """Interpolate, and go on straight at both ends; NaN stays."""
        index = torch.searchsorted(places, values.detach().contiguous()).clamp(1, len(places) - 1)
        left, right = places[index - 1], places[index]
        share = (values - left) / (right - left)
        return torch.lerp(heights[index - 1], heights[index], share)


SRGB = Transfer(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""That of most photographs."""


def said_by(metadata: Metadata) -> Transfer | None:
    """Return the transfer function that a picture's file says, by its profile, its PNG chunks or its EXIF; None by none."""
    if metadata.icc is not None:
        return of_profile(metadata.icc) or SRGB
    chunks = {name.decode("latin-1"): content for name, content in metadata.chunks}
    if "sRGB" in chunks:
        return SRGB
    if len(chunks.get("gAMA", b"")) == 4 and (exponent := struct.unpack(">I", chunks["gAMA"])[0]):
        return Transfer(1e5 / exponent)
    return SRGB if metadata.exif is not None and _of_a_camera(metadata.exif) else None


def of_profile(profile: bytes) -> Transfer | None:
    """Return the transfer function of green or grey in an ICC profile; None where it has none, or is damaged."""
    try:
        (count,) = struct.unpack_from(">I", profile, _TAGS)
        for number in range(min(count, _MOST_TAGS)):
            name, start, length = struct.unpack_from(">4sII", profile, _TAGS + 4 + number * _ENTRY)
            if name in _TONES:
                return _of_tag(profile[start : start + length])
    except (struct.error, ValueError, OverflowError, ZeroDivisionError):
        return None
    return None


def _of_tag(tag: bytes) -> Transfer | None:
    kind = tag[:4]
    if kind == b"para":
        (type_,) = struct.unpack_from(">H", tag, 8)
        names = _GIVEN[type_] if type_ < len(_GIVEN) else ""
        numbers = [number / _FIXED for number in struct.unpack_from(f">{len(names)}i", tag, 12)]
        return _parametric(dict(zip(names, numbers, strict=True)), type_) if names else None
    if kind != b"curv":
        return None
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return Transfer()
    if count == 1:
        gamma = struct.unpack_from(">H", tag, 12)[0] / 256
        return Transfer(gamma) if gamma > 0 else None
    if count > _MOST_ENTRIES:
        return None
    entries = torch.tensor(struct.unpack_from(f">{count}H", tag, 12), dtype=torch.float64) / (2**16 - 1)
    # Nowhere level, so that it can be undone: a table of few bits is, near black.
    rising = entries.cummax(0).values + torch.linspace(0, _FEW, count, dtype=torch.float64)
    return Transfer(table=tuple(rising.tolist())) if bool(entries[-1] > 0.5) else None


def _parametric(given: dict[str, float], type_: int) -> Transfer | None:
    """Make the function of a parametric curve; None of one that does not rise."""
    given = {"a": 1.0, **given}
    g, a = given["g"], given["a"]
    if not (g > 0 and a > 0):
        return None
    if type_ in (1, 2):  # below where the power's base is zero, the function is level
        level = given.get("e", 0.0)
        return Transfer(g, a, given["b"], 0.0, -given["b"] / a, level, level)
    b, c, d, e, f = (given.get(name, 0.0) for name in "bcdef")
    return Transfer(g, a, b, c, d, e, f)


def _of_a_camera(exif: bytes) -> bool:
    """Whether EXIF says that the colours are sRGB's, or which camera took the picture without saying otherwise."""
    tags = Image.Exif()
    try:
        tags.load(exif if exif.startswith(EXIF) else EXIF + exif)
        space = tags.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
    except Exception:  # Pillow raises whatever its parser meets in damaged EXIF
        return False
    return space == _SRGB_EXIF or (space is None and ExifTags.Base.Make in tags)
