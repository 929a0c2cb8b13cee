"""From a clip to a film: upscale, resize, interpolate and encode in a stream, with a few frames in memory."""

from .codecs import CODECS
from .duration import Duration, plan_duration
from .movie import FilmOptions, check_film, write_film
from .sound import Sound
from .stream import FilmProgress, FilmSize, Reel, batch_of, film_size, to_size, with_progress

__all__ = [
    "CODECS",
    "Duration",
    "FilmOptions",
    "FilmProgress",
    "FilmSize",
    "Reel",
    "Sound",
    "batch_of",
    "check_film",
    "film_size",
    "plan_duration",
    "to_size",
    "with_progress",
    "write_film",
]
