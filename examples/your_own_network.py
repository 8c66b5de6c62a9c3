"""A live module with functional layers: nothing to change in it, nothing to register."""

import torch
import torch.nn.functional as F
from torch import nn

import unconv


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 5, padding=2), nn.Conv2d(8, 16, 3, padding=1)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.first(x)), 3, 2)
        return F.relu(x + F.relu(self.second(x)).mean(1, keepdim=True))


network = unconv.Network(Small().eval(), input_size=(1, 40, 60))
for place in network.places():
    print(place.name, place.operation, place.channels, place.size, place.receptive_field)
image = torch.rand(1, 40, 60)
exact = network.project(image, "relu_2", channels="top:3", method="gradient")
print(exact.values, exact.boxes, exact.pixels().shape)
