"""The signal of one unit at every layer between it and the pixels."""

import unconv
from unconv.box import demo_pictures

network = unconv.load("unconv:caltech")
(one,) = network.project(demo_pictures()[0], "features.18", channels="top:1", trace=True)
for signal in one.signals:
    channel, share = signal.channels[0]
    print(f"{signal.place:12} {tuple(signal.energy.shape)!s:10} channel {channel:3d} carries {share:4.0%} of the energy")
