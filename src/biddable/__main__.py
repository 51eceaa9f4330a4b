"""Let ``python -m biddable`` do what ``biddable`` does, under torchrun too."""

import sys

from biddable.cli import main

if __name__ == "__main__":
    sys.exit(main())
