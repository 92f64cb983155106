"""`python -m xpnet`: the command line."""

from xpnet.cli import main

main()
