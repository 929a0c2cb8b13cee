"""What is done, kept in one JSON file beside the clips, replaced as a whole after every change."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..files import remove_leftovers, write_json
from ..video import read_clip, read_settings
from .jobs import KEY, ClipJob

NAME = "manifest.json"
FORMAT = 1


class Manifest:
    """State of the clips of one folder, by name: done or failed, key, attempts, seconds, size, error.

    The file is never behind by more than the clip that was just finished, and that one is recognised by the key inside
    it: a stop at any moment loses no finished clip and repeats none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / NAME
        self.clips: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            try:
                content = json.loads(self.path.read_text(encoding="utf-8"))
                if content["format"] != FORMAT:
                    raise ValueError(f"format {content['format']}")
                self.clips = dict(content["clips"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path} is no manifest of a batch ({error}); choose another --output, or remove that file "
                    "(finished clips are recognised without it)"
                ) from None

    def is_done(self, job: ClipJob) -> bool:
        """Whether the clip of this very job lies there, written down or not. Raises ValueError for a foreign file."""
        output = Path(job.output)
        if not output.exists():
            return False
        if self._knows(job):
            # A manifest of an earlier version says no size; a whole clip of another size was edited, and is kept.
            return self.clips[job.name].get("size") in (None, _size(output)) or _is_whole(job)
        found = read_settings(output).get(KEY)
        if found is None and not (output.is_dir() and not any(output.iterdir())):
            raise ValueError(
                f"{output} was not made by a batch and would be replaced; move it or choose another --output"
            )
        return found == job.key

    def _knows(self, job: ClipJob) -> bool:
        entry = self.clips.get(job.name, {})
        return entry.get("status") == "done" and entry.get("key") == job.key

    def remaining(self, jobs: Iterable[ClipJob]) -> list[ClipJob]:
        """The jobs that still have to run; finished clips that are not in the file yet are written down."""
        rest = []
        for job in jobs:
            if not self.is_done(job):
                rest.append(job)
            elif not self._knows(job):
                self._set(job, "done", 0, 0.0)
        for job in rest:
            remove_leftovers(Path(job.output).parent, Path(job.output).name)
        self.save()
        return rest

    def done(self, job: ClipJob, attempts: int, seconds: float) -> None:
        """Write down that the clip is there."""
        self._set(job, "done", attempts, seconds)
        self.save()

    def failed(self, job: ClipJob, attempts: int, error: str) -> None:
        """Write down why the clip could not be made."""
        self._set(job, "failed", attempts, 0.0)
        self.clips[job.name]["error"] = error
        self.save()

    def _set(self, job: ClipJob, status: str, attempts: int, seconds: float) -> None:
        self.clips[job.name] = {
            "status": status,
            "output": Path(job.output).name,
            "image": job.image,
            "key": job.key,
            "attempts": attempts,
            "seconds": round(seconds, 3),
        }
        if status == "done":
            self.clips[job.name]["size"] = _size(Path(job.output))

    def save(self) -> None:
        """Replace the file."""
        write_json(self.path, {"format": FORMAT, "clips": self.clips})


def _size(output: Path) -> int:
    """What shows a damaged clip without reading it: bytes of a file, the number of files of a folder of frames."""
    return len(list(output.iterdir())) if output.is_dir() else output.stat().st_size


def _is_whole(job: ClipJob) -> bool:
    """Whether a clip that can be read lies there, with all frames of the job."""
    try:
        frames = read_clip(job.output)[0]
    except (ValueError, OSError):
        return False
    return len(frames) >= job.settings.frames + job.settings.extend
