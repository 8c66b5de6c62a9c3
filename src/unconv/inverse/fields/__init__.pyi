from . import image as image
from . import seismic as seismic
from . import ultrasonic as ultrasonic
