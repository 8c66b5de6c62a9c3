"""The tape: what happened to one image on its way through a network."""
