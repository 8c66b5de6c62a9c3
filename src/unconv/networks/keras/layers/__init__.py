"""Keras' layers in torch's operations, by kind: `keras_layer` fills the table, and all modules are imported here."""

from unconv.networks.keras.layers import activations, convolutions, joins, norms, pools, shapes
from unconv.networks.keras.layers.table import LAYERS, OPERATIONS

__all__ = ["LAYERS", "OPERATIONS", "activations", "convolutions", "joins", "norms", "pools", "shapes"]
