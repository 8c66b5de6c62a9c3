"""The same tape, told in another way: channels first, gates and statistics frozen."""
