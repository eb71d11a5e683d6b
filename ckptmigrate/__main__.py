"""``python -m ckptmigrate``."""

from ckptmigrate.cli import main

main()
