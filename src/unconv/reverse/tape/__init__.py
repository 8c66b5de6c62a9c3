"""The tape: what happened to one image on its way through a network."""

from unconv.reverse.tape.record import record
from unconv.reverse.tape.step import Before, Keeper, Keepers, Step, Tape, Value

__all__ = ["Before", "Keeper", "Keepers", "Step", "Tape", "Value", "record"]
