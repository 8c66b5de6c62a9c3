from .live import Live as Live
from .serving import application as application
from .serving import serve as serve
from .writing import write_site as write_site
from .writing import zipped as zipped
