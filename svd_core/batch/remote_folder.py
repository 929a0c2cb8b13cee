"""The output folder of a batch behind an address: clips are written on this machine first, and uploaded whole."""

import hashlib
import posixpath
import shutil
import time
from pathlib import Path

from .addresses import CACHE, answering, copy_of, file_system
from .manifest import NAME, Manifest

UPLOAD_EVERY = 30.0
"""Seconds between two uploads of the manifest: storage of objects cannot append, so each upload is the whole file."""


class RemoteFolder:
    """An output folder behind an address, with a folder of this machine in front of it.

    A clip whose upload fails stays here: the next run uploads it and does not sample it again.
    """

    def __init__(self, address: str) -> None:
        """Fetch the manifest, and see what is there already."""
        self.address = address.rstrip("/")
        self.folder = CACHE / hashlib.sha256(self.address.encode()).hexdigest()[:24]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._system, self._path = file_system(self.address)
        self._uploaded = -UPLOAD_EVERY
        with answering(address):
            self._system.makedirs(self._path, exist_ok=True)
            listed = self._system.ls(self._path, detail=True)
        self.sizes = {posixpath.basename(entry["name"].rstrip("/")): entry["size"] for entry in listed}
        mine = self.folder / NAME
        if NAME in self.sizes and not mine.exists():  # one that is here is of a run whose upload failed, and newer
            copy_of(f"{self.address}/{NAME}", self.folder)

    def elsewhere(self, manifest: Manifest, names: set[str]) -> dict[str, int]:
        """Return the sizes of the clips among `names` that the manifest lists; fetch others, which must be checked."""
        listed = {entry.get("output"): entry.get("size") for entry in manifest.clips.values()}
        known = {}
        for name in names & self.sizes.keys():
            if listed.get(name) is not None and listed[name] == self.sizes[name]:
                known[name] = self.sizes[name]
            else:
                copy_of(f"{self.address}/{name}", self.folder)
        return known

    def upload(self, output: str) -> None:
        """Move a finished clip to the address, and from time to time the manifest."""
        path = Path(output)
        self._put(path)
        path.unlink()
        if time.monotonic() - self._uploaded >= UPLOAD_EVERY:
            self.upload_manifest()

    def upload_manifest(self) -> None:
        """Upload the manifest as it is now."""
        path = self.folder / NAME
        if path.exists():
            self._put(path)
            self._uploaded = time.monotonic()

    def address_of(self, output: str) -> str:
        """Return the address of an output."""
        return f"{self.address}/{Path(output).name}"

    def _put(self, path: Path) -> None:
        with answering(self.address):
            self._system.put_file(str(path), f"{self._path.rstrip('/')}/{path.name}")

    def finish(self) -> None:
        """Upload the manifest, and remove the folder of this machine."""
        self.upload_manifest()
        shutil.rmtree(self.folder, ignore_errors=True)
