"""Cut the photographs in the box into a few hundred pictures: a small data set to scan, made in seconds.

python examples/crops.py crops
unconv index unconv:caltech crops -o crops-index
unconv figure crops-index --at features.13 --at features.18 --at features.23 -o figure2.png
"""

import sys
from pathlib import Path

from PIL import Image

import unconv

SIDES = (72, 112)  # pixels of a crop
STEP = 0.6  # of its side, from one crop to the next


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "crops")
    count = 0
    for path in sorted((Path(unconv.__file__).parent / "box" / "pictures").glob("*.jpg")):
        folder = out / path.stem  # the photograph's name is the label
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as photograph:
            for side in SIDES:
                step = int(side * STEP)
                for y in range(0, photograph.height - side + 1, step):
                    for x in range(0, photograph.width - side + 1, step):
                        crop = photograph.crop((x, y, x + side, y + side)).resize((108, 108), Image.Resampling.LANCZOS)
                        crop.save(folder / f"{side:03d}-{y:03d}-{x:03d}.jpg", quality=95)
                        count += 1
    print(f"wrote {count} pictures into {out}")


if __name__ == "__main__":
    main()
