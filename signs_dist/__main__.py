"""`python -m signs_dist train …` runs `signs-dist train …`."""

import sys

from signs_dist.cli import main

if __name__ == "__main__":
    sys.exit(main())
