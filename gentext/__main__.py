"""``python -m gentext``: the command line."""

from gentext.cli import main

if __name__ == "__main__":
    main()
