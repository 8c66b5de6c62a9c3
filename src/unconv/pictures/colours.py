"""Convert colours that are neither grey nor RGB, such as palettes and CMYK inks, and say in words what was converted."""

from __future__ import annotations

import io

from PIL import Image

_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")


def from_inks(image: Image.Image) -> Image.Image:
    """Convert CMYK to RGB, by the picture's ICC profile or else by Pillow's formula; the CMYK profile is dropped."""
    rgb = _by_profile(image) or image.convert("RGB")
    # Pillow's convert copies `info`: the profile of the inks would describe the wrong colours.
    if rgb.info.get("icc_profile") == image.info.get("icc_profile"):
        rgb.info.pop("icc_profile", None)
    return rgb


def _by_profile(image: Image.Image) -> Image.Image | None:
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    try:
        from PIL import ImageCms
    except ImportError:  # Pillow was built without littleCMS
        return None
    try:
        inks, light = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        rgb = ImageCms.profileToProfile(image, inks, light, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):  # a damaged profile, or one of other colours
        return None
    if rgb is not None:
        rgb.info["icc_profile"] = light.tobytes()
    return rgb


def remarks(image: Image.Image, made: Image.Image) -> tuple[str, ...]:
    """Return notes on how a picture's colours were converted, or which of its frames was read; none if nothing changed.

    Args:
        made: the converted `image`.
    """
    notes = []
    if image.mode in ("P", "PA"):
        notes.append(
            f"measured: the picture has a palette; its colours were read as {made.mode}, and the result has no palette."
        )
    elif image.mode == "CMYK":
        way = "to sRGB by its profile" if made.info.get("icc_profile") else "by a rough formula, since it has no profile"
        notes.append(
            f"measured: the picture's CMYK was converted {way}; the result is RGB. Convert it first to choose another way."
        )
    elif image.mode == "1":
        notes.append("measured: the picture is black and white, with 1 bit a sample; the result is grey, with 8 bits.")
    elif made.mode in ("RGB", "RGBA") and image.mode not in ("RGB", "RGBA", "RGBa", "RGBX"):
        notes.append(f"measured: the picture's {image.mode} was converted to {made.mode}.")
    if image.format in _ANIMATED and getattr(image, "is_animated", False):
        notes.append("measured: the file holds an animation; only its first frame was read.")
    return tuple(notes)
