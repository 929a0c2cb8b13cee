"""`python -m tools.help` writes the help pages; --check lists outdated ones; --pictures makes their pictures."""

import argparse
import sys

from tools.workflows.library import ROOT

from .pages import stale_pages, write_pages

parser = argparse.ArgumentParser(prog="python -m tools.help", description=__doc__)
parser.add_argument("--check", action="store_true", help="write nothing; fail and say what would change")
parser.add_argument("--pictures", nargs="*", metavar="NODE", help="make the pictures of these nodes, or of all")
asked = parser.parse_args()
if asked.check:
    found = stale_pages()
    print("\n".join(found) or "all pages are up to date")
    sys.exit(bool(found))
if asked.pictures is not None:
    from .pictures import write_pictures

    write_pictures(asked.pictures)
for path in write_pages():
    print(path.relative_to(ROOT).as_posix())
