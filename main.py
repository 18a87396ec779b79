"""`python main.py` starts the service; `python main.py --help` shows the rest."""

from asyncsvc.cli import main

if __name__ == "__main__":
    main()
