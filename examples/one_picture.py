"""What drives the most active channels of one layer? A grid of projections beside their patches."""

import sys

import unconv
from unconv.box import demo_pictures

picture = sys.argv[1] if len(sys.argv) > 1 else demo_pictures()[1]
network = unconv.load("unconv:caltech")
found = network.project(picture, "features.13", channels="top:9")
for one in found:
    print(f"channel {one.unit[0]:3d} at {one.unit[1:]}: activation {one.value:.2f}, pixels {one.box}")
found.save("projections.png")
