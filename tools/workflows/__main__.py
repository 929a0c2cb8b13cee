"""`python -m tools.workflows` writes the files of `workflows/`, `workflows/api/` and `subgraphs/`.

`--pictures [NAME...]` also makes the workflows' pictures. `--without FOLDER` only writes the workflows with the
switches of their notes *Without these files* applied, into that folder.
"""

import sys
from pathlib import Path

from .api_forms import write_api_forms
from .blueprints import write_blueprints
from .build import ROOT, write_all

arguments = sys.argv[1:]
if arguments[:1] == ["--without"]:
    for path in write_all(Path(arguments[1]), without_models=True):
        print(path)
    sys.exit()
paths = write_all() + write_api_forms() + write_blueprints()
if arguments[:1] == ["--pictures"]:
    from .pictures import write_pictures

    paths += write_pictures(arguments[1:])
for path in paths:
    print(path.relative_to(ROOT).as_posix())
