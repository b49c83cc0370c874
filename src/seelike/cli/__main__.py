"""`python -m seelike.cli`, where the command `seelike` is not on the path."""

from seelike.cli import main

if __name__ == "__main__":
    main()
