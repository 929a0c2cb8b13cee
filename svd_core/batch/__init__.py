"""Many clips: rows of a folder, a table or a storyboard, over worker processes or Ray, with resume and a manifest.

The clip of a row is what one run of `animate` makes of it: which worker makes it, and after how many failures, never
shows. Only the manifest knows what is done.
"""

from .dispatch import Outcome, run_jobs
from .jobs import ClipJob, ModelSpec, make_clip, plan_jobs
from .manifest import Manifest
from .rows import BatchRow, read_rows

__all__ = [
    "BatchRow",
    "ClipJob",
    "Manifest",
    "ModelSpec",
    "Outcome",
    "make_clip",
    "plan_jobs",
    "read_rows",
    "run_jobs",
]
