"""`python -m clients`: see `clients.cli`."""

from clients.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
