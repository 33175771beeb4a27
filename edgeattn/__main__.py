"""`python -m edgeattn`, which is the command `edgeattn`."""

from edgeattn.cli.main import entry

if __name__ == "__main__":
    entry()
