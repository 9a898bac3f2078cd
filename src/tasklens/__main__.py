"""``python -m tasklens`` is the command ``tasklens``."""

from tasklens.cli.main import main

if __name__ == "__main__":
    main()
