"""From a transposed convolution to a deconvnet: the tutorial (docs/tutorial.md) as one script.

The first numbers are those of the classic TensorFlow 1 exercise on deconvolution and unpooling. Then every layer of the
network in the box, or of VGG16 with its trained weights (528 MB are downloaded), is sent back to a photograph's pixels:

python examples/tutorial.py
python examples/tutorial.py torchvision:vgg16 dog.jpg
"""

import sys

import numpy as np

import unconv
from unconv import ops
from unconv.box import demo_pictures


def operations() -> None:
    img, kernel = np.ones([1, 4, 4, 1], np.float32), np.array([1, 0, -1, -2], np.float32).reshape(2, 2, 1, 1)
    for padding in ("VALID", "SAME"):
        small = ops.conv2d(img, kernel, strides=[1, 2, 2, 1], padding=padding)
        print(padding, small.numpy(), sep="\n")
        print(ops.conv2d_transpose(small, kernel, [1, 4, 4, 1], strides=[1, 2, 2, 1], padding=padding).numpy())
    img = np.stack([np.arange(4.0).repeat(4), np.arange(4.0, 8).repeat(4)], axis=-1).reshape(1, 4, 4, 2)
    pooled, mask = ops.max_pool_with_argmax(img, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
    print(mask.numpy())
    print(ops.unpool_max(pooled, mask, img.shape).numpy())


def network(spec: str, picture: str) -> None:
    opened = unconv.load(spec, None if spec.startswith("unconv:") else "DEFAULT")
    for layer in opened.stream(picture, channels="together"):
        print(f"{layer.place.name:12} {tuple(layer.feature_map.shape)} back to {tuple(layer.window.shape)}")
    deepest = opened.project(picture, layer.place, channels="top:9")
    deepest.save("tutorial.png", columns=3)
    print(deepest)


if __name__ == "__main__":
    operations()
    network(*(sys.argv[1:] if len(sys.argv) > 2 else ("unconv:caltech", str(demo_pictures()[1]))))
