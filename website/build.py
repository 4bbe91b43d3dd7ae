"""Make the site, and check its links: python -m website.build build/site

A warning of Sphinx is an error, and so is a link that leads nowhere. The folder is replaced. Exit codes: 0 the site is
made, 1 a warning or a lost link, which stderr names.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from website.links import check_site

REPOSITORY = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str]) -> int:
    """Make the site in the folder that the first argument names."""
    from sphinx.cmd.build import main as sphinx

    folder = Path(arguments[0])
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as doctrees:
        strict = ["-W", "--keep-going", "-q", "-T", "-d", doctrees]
        code = sphinx([*strict, "-b", "html", "-c", str(REPOSITORY / "website"), str(REPOSITORY), str(folder)])
    if code:
        return 1
    lost, external = check_site(folder)
    print(f"links to other sites, which are not opened: {len(external)}")
    for target, pages in sorted(external.items()):
        print(f"  {target}  on {', '.join(sorted(pages)[:3])}")
    for line in lost:
        print(f"error: {line}", file=sys.stderr)
    if not lost:
        print(f"open {folder / 'index.html'}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
