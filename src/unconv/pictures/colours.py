"""Colours that are no samples of grey or of red, green and blue: palettes and inks, converted, and said in words."""

from __future__ import annotations

import io

from PIL import Image

_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")


def from_inks(image: Image.Image) -> Image.Image:
    """Convert CMYK to RGB: to sRGB by the profile that says what its inks are, else by Pillow's formula; the profile goes."""
    made = _by_profile(image) or image.convert("RGB")
    if made.info.get("icc_profile") == image.info.get("icc_profile"):
        made.info.pop("icc_profile", None)
    return made


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
        made = ImageCms.profileToProfile(image, inks, light, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):  # a damaged profile, or one of other colours
        return None
    if made is not None:
        made.info["icc_profile"] = light.tobytes()
    return made


def remarks(image: Image.Image, made: Image.Image) -> tuple[str, ...]:
    """Say what becomes of a picture whose colours are of another kind than its samples.

    Args:
        made: what was made of `image`.
    """
    told = []
    if image.mode in ("P", "PA"):
        told.append(
            f"measured: the picture has a palette; its colours were taken as {made.mode}, and the result has no palette."
        )
    elif image.mode == "CMYK":
        way = "to sRGB by its profile" if made.info.get("icc_profile") else "without a profile, by a rough formula"
        told.append(f"measured: the picture's CMYK was converted {way}; the result is RGB. Convert it yourself to choose how.")
    elif image.mode == "1":
        told.append("measured: the picture is black and white, of 1 bit; the result is grey, of 8 bits.")
    elif made.mode in ("RGB", "RGBA") and image.mode not in ("RGB", "RGBA", "RGBa", "RGBX"):
        told.append(f"measured: the picture's {image.mode} was converted to {made.mode}.")
    if image.format in _ANIMATED and getattr(image, "is_animated", False):
        told.append("measured: the file holds an animation; its first picture was taken.")
    return tuple(told)
