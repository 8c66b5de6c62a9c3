from .echoes import Echoes as Echoes
from .echoes import resolve_echoes as resolve_echoes
from .reference import pulse_of_echo as pulse_of_echo
