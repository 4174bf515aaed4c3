"""`python -m kaon.cli`."""

from kaon.cli.root import main

main()
