"""``python -m nerdistill`` is the same program as the ``nerdistill`` command."""

from nerdistill.cli.app import main

if __name__ == "__main__":
    main()
