"""Files of small networks that are added to a model: adapters, pose networks."""

from pathlib import Path

from ...svd_core.files import printable
from ..host import comfy as host

FOLDERS = ("svd", "controlnet", "checkpoints")
MISSING = "none found"


def adapter_names() -> list[str]:
    """Return the names of the safetensors files that may hold an adapter, or one entry that says there is none."""
    files = [name for folder in FOLDERS for name in host.model_files(folder) if name.lower().endswith(".safetensors")]
    return list(dict.fromkeys(files)) or [MISSING]


def adapter_path(name: str, what: str) -> str:
    """Return the path of a listed file; raises FileNotFoundError, naming `what`, that says where such files belong."""
    for folder in FOLDERS:
        path = host.model_path(folder, name)
        if path is not None:
            return path
    raise FileNotFoundError(
        f"{what} {printable(name)!r} not found; put the .safetensors file into models/svd and press R"
    )


def stamp(name: str | None) -> str:
    """Return modification time and size of a listed file; empty for one that is not there."""
    found = [host.model_path(folder, name) for folder in FOLDERS] if name else []
    path = next((Path(path) for path in found if path), None)
    if path is None or not path.exists():
        return ""
    return f"{path.stat().st_mtime_ns}:{path.stat().st_size}"
