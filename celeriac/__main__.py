"""`python -m celeriac`: the command line, where the script is not on PATH."""

from __future__ import annotations

from celeriac.cli import main

if __name__ == "__main__":
    main()
