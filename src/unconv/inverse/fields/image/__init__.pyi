from .restore import deblur as deblur
from .restore import super_resolve as super_resolve
from .restored import Restored as Restored
