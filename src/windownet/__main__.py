"""`python -m windownet` is the `windownet` command."""

from windownet.cli import main

main()
