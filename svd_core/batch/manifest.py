"""The manifest of a batch: one line of JSON per finished or failed clip, appended to a file beside the clips."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..files import parse_json, printable, read_json, remove_leftovers, write_error, write_text
from ..video import open_clip, read_settings
from .jobs import KEY, ClipJob

NAME = "manifest.jsonl"
FORMAT = 2
MOST_LINE = 1_000_000  # bytes of one entry
OLD_NAME, OLD_FORMAT = "manifest.json", 1  # one JSON object, rewritten after every clip; read and replaced


class Manifest:
    """State of the clips in one folder, by name: done or failed, key, attempts, seconds, size, error.

    Every change is one appended line, and the last line of a name counts. A stop at any moment loses at most the line
    of the clip just finished, and that clip is recognised by the key inside it: no finished clip is lost or remade.
    """

    def __init__(self, folder: str | Path) -> None:
        """Read the manifest in `folder`, or start an empty one. Raises ValueError for any other file of that name."""
        self.folder = Path(folder)
        self.path = self.folder / NAME
        self.clips: dict[str, dict[str, Any]] = {}
        self._new: list[str] = []  # lines that are not in the file yet
        self._file: BinaryIO | None = None
        self._rewrite = True  # the file is missing, in the old format, or ends in half a line
        if self.path.exists():
            self._read()
        elif (self.folder / OLD_NAME).exists():
            self._read_old()

    def is_done(self, job: ClipJob) -> bool:
        """Return whether the clip of exactly this job exists, listed or not. Raises ValueError for a foreign file."""
        output = Path(job.output)
        return output.exists() and self._is_done(job, _size(output))

    def remaining(self, jobs: Iterable[ClipJob], elsewhere: Mapping[str, int] | None = None) -> list[ClipJob]:
        """Return the jobs that still have to run, and list finished clips that were not listed.

        The folders of the clips are scanned once, and what killed runs left in them is removed. elsewhere: sizes of
        listed clips, by name, that were moved to another place.
        """
        jobs = list(jobs)
        sizes: dict[str, int | None] = {}
        for folder in dict.fromkeys(os.path.dirname(job.output) or "." for job in jobs):
            remove_leftovers(folder)
            sizes |= {os.path.join(folder, name): size for name, size in (elsewhere or {}).items()} | _scan(folder)
        rest = []
        for job in jobs:
            found = os.path.join(os.path.dirname(job.output) or ".", os.path.basename(job.output))
            if found not in sizes or not self._is_done(job, sizes[found]):
                rest.append(job)
            elif not self._lists(job):
                self._set(job, "done", 0, 0.0)
        self._save()
        return rest

    def done(self, job: ClipJob, attempts: int, seconds: float) -> None:
        """List a clip as done. Raises OSError with one sentence where the line cannot be written."""
        self._set(job, "done", attempts, seconds)
        self._save()

    def failed(self, job: ClipJob, attempts: int, error: str) -> None:
        """List a clip as failed, with the reason."""
        self._set(job, "failed", attempts, 0.0, error=error)
        self._save()

    def close(self) -> None:
        """Flush the file to the disk and close it; the next change opens it again."""
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                os.fsync(file.fileno())

    def _is_done(self, job: ClipJob, size: int) -> bool:
        """Return whether an existing output of this size is the clip of the job."""
        if self._lists(job):
            # The first format had no size at first. A readable clip of another size was edited by hand and is kept.
            return self.clips[job.name].get("size") in (None, size) or _is_whole(job)
        output = Path(job.output)
        found = read_settings(output).get(KEY)
        if found is None and not (output.is_dir() and not any(output.iterdir())):
            raise ValueError(
                f"{output} was not made by a batch and would be replaced; move it, or choose another --output"
            )
        return found == job.key

    def _lists(self, job: ClipJob) -> bool:
        entry = self.clips.get(job.name, {})
        return entry.get("status") == "done" and entry.get("key") == job.key

    def _set(self, job: ClipJob, status: str, attempts: int, seconds: float, **more: str) -> None:
        entry: dict[str, Any] = {
            "status": status,
            "output": Path(job.output).name,
            "image": job.image,
            "key": job.key,
            "attempts": attempts,
            "seconds": round(seconds, 3),
            **more,
        }
        if status == "done":
            entry["size"] = _size(Path(job.output))
        if job.picture is not None:
            entry["picture"] = list(job.picture)
        self.clips[job.name] = entry
        self._new.append(_line(job.name, entry))

    def _save(self) -> None:
        """Append the new lines; the first time, write the whole file where it cannot be appended to."""
        if not self._new:
            return
        lines, self._new = self._new, []
        if self._rewrite:
            entries = (_line(name, entry) for name, entry in self.clips.items())
            write_text(self.path, "".join([json.dumps({"format": FORMAT}) + "\n", *entries]))
            (self.folder / OLD_NAME).unlink(missing_ok=True)
            self._rewrite = False
            return
        try:
            if self._file is None:
                self._file = self.path.open("ab")
            self._file.write("".join(lines).encode())
            self._file.flush()
        except OSError as error:
            self._rewrite = True  # half a line may be in the file
            with suppress(OSError):
                self.close()
            raise write_error(self.path, error) from error

    def _read(self) -> None:
        lines = self.path.read_bytes().split(b"\n")
        self._rewrite = lines.pop() != b""  # a run was stopped in the middle of this line
        try:
            head = parse_json(lines[0], most_bytes=MOST_LINE) if lines else None
            if not isinstance(head, dict) or head.get("format") != FORMAT:
                raise ValueError(f"the first line must give format {FORMAT}")
            for number, line in enumerate(lines[1:], 2):
                entry = parse_json(line, most_bytes=MOST_LINE)
                name = entry.pop("name", None) if isinstance(entry, dict) else None
                self.clips[str(name)] = _checked(name, entry, f"line {number}")
        except ValueError as error:
            raise _not_a_manifest(self.path, error) from None
        # Lines of clips that were remade are dropped once they are most of the file.
        self._rewrite = self._rewrite or len(lines) > 1000 + 2 * len(self.clips)

    def _read_old(self) -> None:
        path = self.folder / OLD_NAME
        try:
            content = read_json(path)
            clips = content.get("clips") if isinstance(content, dict) else None
            if not isinstance(clips, dict) or content.get("format") != OLD_FORMAT:
                raise ValueError(f"it must have format {OLD_FORMAT} and clips")
            self.clips = {name: _checked(name, entry, f"'{printable(name)}'") for name, entry in clips.items()}
        except ValueError as error:
            raise _not_a_manifest(path, error) from None


def _checked(name: object, entry: Any, where: str) -> dict[str, Any]:
    """Return the entry of a clip; raise ValueError unless it has the form of those that `Manifest` writes."""
    fields = {"status": str, "key": str}
    if not isinstance(name, str) or not isinstance(entry, dict):
        raise ValueError(f"{where} is not the entry of a clip")
    if not all(isinstance(entry.get(field), kind) for field, kind in fields.items()):
        raise ValueError(f"{where} has no status and key")
    return entry


def _not_a_manifest(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is not a manifest of a batch ({error}); choose another --output, or remove that file (finished clips "
        "are recognised without it)"
    )


def _line(name: str, entry: Mapping[str, Any]) -> str:
    return json.dumps({"name": name, **entry}) + "\n"


def _scan(folder: str) -> dict[str, int]:
    """Return the size, as `_size` counts it, of everything in a folder by its path."""
    with os.scandir(folder) as entries:
        return {
            os.path.join(folder, entry.name): len(os.listdir(entry.path)) if entry.is_dir() else entry.stat().st_size
            for entry in entries
            if entry.is_dir() or entry.is_file()
        }


def _size(output: Path) -> int:
    """Return what shows a damaged clip without reading it: bytes of a file, number of files in a folder of frames."""
    return len(os.listdir(output)) if output.is_dir() else output.stat().st_size


def _is_whole(job: ClipJob) -> bool:
    """Return whether the output is a readable clip with all frames of the job."""
    try:
        with open_clip(job.output) as clip:
            count = sum(1 for _ in clip)
    except (ValueError, OSError):
        return False
    return count >= job.settings.frames + job.settings.extend
