"""`python -m longleaf` is the command line."""

from longleaf.app.cli import main

main()
