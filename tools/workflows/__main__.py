"""`python -m tools.workflows` writes the JSON files of `workflows/` anew."""

from .build import ROOT, write_all

for path in write_all():
    print(path.relative_to(ROOT).as_posix())
