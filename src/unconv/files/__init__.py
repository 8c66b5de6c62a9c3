"""Write files and folders atomically: each appears complete or not at all, and only unconv's own files are replaced."""

from unconv.files.file import refuse_unwritable, said_in_words, whole_file, write
from unconv.files.folder import Staged, refuse_taken, whole_folder
from unconv.files.names import file_names
from unconv.files.stops import Terminated, ignore_stops, terminable, uninterrupted

__all__ = [
    "Staged",
    "Terminated",
    "file_names",
    "ignore_stops",
    "refuse_taken",
    "refuse_unwritable",
    "said_in_words",
    "terminable",
    "uninterrupted",
    "whole_file",
    "whole_folder",
    "write",
]
