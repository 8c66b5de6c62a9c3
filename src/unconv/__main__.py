"""`python -m unconv`: the command."""

from unconv.cli import main

if __name__ == "__main__":
    main()
