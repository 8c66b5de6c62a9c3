"""Keras' layers in torch's operations, by kind: `keras_layer` puts a function into the table, and all are read here."""

from unconv.networks.keras.layers import activations, convolutions, joins, norms, pools, shapes
from unconv.networks.keras.layers.table import LAYERS, OPERATIONS

__all__ = ["LAYERS", "OPERATIONS", "activations", "convolutions", "joins", "norms", "pools", "shapes"]
