"""Keras models on its torch backend, retold as modules that torch can follow."""

from unconv.networks.keras.graph import adapted
from unconv.networks.keras.opening import input_size, is_keras, open_keras, open_keras_file, open_keras_live

__all__ = ["adapted", "input_size", "is_keras", "open_keras", "open_keras_file", "open_keras_live"]
