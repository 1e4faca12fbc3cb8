"""Runs the command line as `python -m forebear`."""

import sys

from forebear.cli.main import main

sys.exit(main())
