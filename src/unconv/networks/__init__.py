"""Opening a model: torchvision, timm, Keras, ONNX, a Python file, a live module; its preprocessing."""
