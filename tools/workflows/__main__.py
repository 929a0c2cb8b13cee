"""`python -m tools.workflows` writes the JSON files of `workflows/` anew, `--pictures [NAME...]` their pictures too."""

import sys

from .build import ROOT, write_all

paths = write_all()
if "--pictures" in sys.argv[1:]:
    from .pictures import write_pictures

    paths += write_pictures(sys.argv[sys.argv.index("--pictures") + 1 :])
for path in paths:
    print(path.relative_to(ROOT).as_posix())
