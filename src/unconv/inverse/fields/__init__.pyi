from . import channel as channel
from . import image as image
from . import seismic as seismic
from . import speech as speech
from . import ultrasonic as ultrasonic
