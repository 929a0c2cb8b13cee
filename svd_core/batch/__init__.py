"""Many clips from the rows of a folder, a table or a storyboard, over worker processes or Ray, with resume.

The clip of a row is the clip of one run of `animate`, whichever worker makes it and after however many failures. The
manifest lists what is done.
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
