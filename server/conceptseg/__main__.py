"""``python -m conceptseg``."""

import sys

from conceptseg.cli.main import main

sys.exit(main())
