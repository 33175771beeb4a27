"""``python -m edgeattn`` is the command ``edgeattn``."""

from edgeattn.cli.main import main

if __name__ == "__main__":
    main()
