"""Keras models on its torch backend, written anew as modules that torch can follow."""
