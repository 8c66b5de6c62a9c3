"""Prior knowledge of the truth: penalties and denoisers."""
