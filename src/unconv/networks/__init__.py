"""Opening a model: torchvision, timm, Keras, ONNX, a Python file, a live module; its preprocessing."""

from unconv.networks.opened import Opened, Preprocessing
from unconv.networks.opening import open_network, unwrap
from unconv.networks.weights import download, read_weights

__all__ = ["Opened", "Preprocessing", "download", "open_network", "read_weights", "unwrap"]
