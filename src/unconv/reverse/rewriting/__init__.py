"""Rewrite a tape: channels first, formulas under their names, gates and statistics frozen."""
