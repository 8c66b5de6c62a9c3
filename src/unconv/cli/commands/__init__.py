"""The commands of `unconv`, one file for each group."""
