"""The deconvnet: a trained network in reverse, from one unit to the pixels."""
