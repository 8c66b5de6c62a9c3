"""Transfer functions: convert a photograph's samples to the light that they encode, and back.

A photograph's samples are not proportional to light but close to its square root, since eyes tell dark shades apart best.
A blur mixes light, before it is encoded so. The functions are those of the ICC's specification (ICC.1:2022, 10.6 and
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

_SRGB_EXIF = 1  # the value of EXIF's tag ColorSpace for sRGB
_TAGS, _ENTRY = 128, 12  # where a profile's list of tags begins, and an entry's length
_TONES = (b"gTRC", b"kTRC")  # the tone curves of green and of grey
_MOST_TAGS, _MOST_ENTRIES = 256, 65536
_FIXED = 65536.0  # ICC's fixed point
# ICC.1:2022, 10.18: the parameters that each type of parametric curve states, in its order.
_PARAMETERS = ("g", "gab", "gabe", "gabcd", "gabcdef")
_FEW = 1e-6  # of white's light: too little to matter, but enough to keep powers and slopes finite


@dataclass(frozen=True)
class Transfer:
    """A transfer function from samples to light, by its parameters or, if it has one, by its table.

    light = (a x + b)^g + e for x >= d, and c x + f for x < d, where x is a sample as a share of white.

    Attributes:
        table: increasing values of light, at samples evenly spaced from 0 to 1.
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
        """Return the samples that encode light, both as shares of white; negative light is treated as zero."""
        light = light.clamp(min=0)
        if self.table:
            return self._along(light, light.new_tensor(self.table), self._even(light))
        above = ((light - self.e).clamp(min=_FEW ** max(self.g, 1.0)) ** (1 / self.g) - self.b) / self.a
        if self.c == 0:
            return above.clamp(min=0)
        return torch.where(light >= self._knee, above, (light - self.f) / self.c)

    def slope(self, samples: Tensor) -> Tensor:
        """Return the derivative of light by samples."""
        # A central difference over half an 8-bit step: tables have no derivative at their entries, curves perhaps none at d.
        step = 1 / 512
        low, high = (samples - step / 2).clamp(min=0), samples + step / 2
        return (self.light(high) - self.light(low)) / (high - low)

    @property
    def plain(self) -> bool:
        """Whether samples are proportional to light."""
        ends = torch.linspace(0, 1, 33, dtype=torch.float64)
        return bool((self.light(ends) - ends).abs().max() < 1e-3)

    @cached_property
    def _knee(self) -> float:
        """The light at x = d, where the power law begins."""
        return float((self.a * self.d + self.b) ** self.g + self.e)

    def _even(self, like: Tensor) -> Tensor:
        return torch.linspace(0, 1, len(self.table), dtype=like.dtype, device=like.device)

    @staticmethod
    def _along(values: Tensor, positions: Tensor, ordinates: Tensor) -> Tensor:
        """Interpolate linearly, extrapolate linearly at both ends; NaN stays NaN."""
        index = torch.searchsorted(positions, values.detach().contiguous()).clamp(1, len(positions) - 1)
        left, right = positions[index - 1], positions[index]
        share = (values - left) / (right - left)
        return torch.lerp(ordinates[index - 1], ordinates[index], share)


SRGB = Transfer(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""The transfer function of sRGB, in which most photographs are encoded."""


def said_by(metadata: Metadata) -> Transfer | None:
    """Return the transfer function that a picture's file states in its profile, PNG chunks or EXIF; None if it states none."""
    if metadata.icc is not None:
        return of_profile(metadata.icc) or SRGB
    chunks = {name.decode("latin-1"): content for name, content in metadata.chunks}
    if "sRGB" in chunks:
        return SRGB
    if len(chunks.get("gAMA", b"")) == 4 and (exponent := struct.unpack(">I", chunks["gAMA"])[0]):
        return Transfer(1e5 / exponent)
    return SRGB if metadata.exif is not None and _of_a_camera(metadata.exif) else None


def of_profile(profile: bytes) -> Transfer | None:
    """Return the transfer function of green or grey in an ICC profile; None if it has none or is damaged."""
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
        names = _PARAMETERS[type_] if type_ < len(_PARAMETERS) else ""
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
    # A table of few bits has equal entries near black. A slight slope makes it strictly increasing, so that it has an inverse.
    rising = entries.cummax(0).values + torch.linspace(0, _FEW, count, dtype=torch.float64)
    return Transfer(table=tuple(rising.tolist())) if bool(entries[-1] > 0.5) else None


def _parametric(parameters: dict[str, float], type_: int) -> Transfer | None:
    """Return the function of a parametric curve; None if it does not increase."""
    parameters = {"a": 1.0, **parameters}
    g, a = parameters["g"], parameters["a"]
    if not (g > 0 and a > 0):
        return None
    if type_ in (1, 2):  # ICC.1:2022, 10.18: constant where the power's base is negative
        level = parameters.get("e", 0.0)
        return Transfer(g, a, parameters["b"], 0.0, -parameters["b"] / a, level, level)
    b, c, d, e, f = (parameters.get(name, 0.0) for name in "bcdef")
    return Transfer(g, a, b, c, d, e, f)


def _of_a_camera(exif: bytes) -> bool:
    """Return whether EXIF states sRGB, or names a camera and no colour space."""
    tags = Image.Exif()
    try:
        tags.load(exif if exif.startswith(EXIF) else EXIF + exif)
        space = tags.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
    except Exception:  # Pillow raises whatever its parser meets in damaged EXIF
        return False
    return space == _SRGB_EXIF or (space is None and ExifTags.Base.Make in tags)
