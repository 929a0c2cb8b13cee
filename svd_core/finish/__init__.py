"""From a clip to a film: upscaled, sized, interpolated and encoded in a stream of a few frames."""

from .codecs import CODECS
from .duration import Duration, plan_duration
from .movie import FilmOptions, Sound, check_film, write_film
from .stream import FilmSize, Reel, Stand, batch_of, film_size, to_size, watched

__all__ = [
    "CODECS",
    "Duration",
    "FilmOptions",
    "FilmSize",
    "Reel",
    "Sound",
    "Stand",
    "batch_of",
    "check_film",
    "film_size",
    "plan_duration",
    "to_size",
    "watched",
    "write_film",
]
