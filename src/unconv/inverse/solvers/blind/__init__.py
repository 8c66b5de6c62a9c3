"""Blind deconvolution: picture and kernel are estimated in turns, from the observed picture alone."""
