"""python -m roofline"""

from __future__ import annotations

import sys

from roofline.cli import main

if __name__ == "__main__":
    sys.exit(main())
