"""``python -m fallback_transport``, and the command ``fallback-transport``."""

import sys

from .doctor.terminal import main

if __name__ == "__main__":
    sys.exit(main())
