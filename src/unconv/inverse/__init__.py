"""Deconvolution as an inverse problem: undo a blur."""
