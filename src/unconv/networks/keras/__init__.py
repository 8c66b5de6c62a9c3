"""Keras models on the torch backend, rewritten as torch modules with channels first."""
