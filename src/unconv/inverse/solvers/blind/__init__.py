"""Deconvolution with an unknown kernel: picture and kernel are estimated in turns, from what was observed alone."""
