"""`python -m asyncsvc` does what the command `asyncsvc` does."""

from asyncsvc.cli import main

if __name__ == "__main__":
    main()
