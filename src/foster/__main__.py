"""``python -m foster`` is ``foster``."""

from foster.cli import main

if __name__ == "__main__":
    main()
