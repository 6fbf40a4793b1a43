"""`python -m components.prepare`: raw pictures in, a checked data set out."""

from components.prepare.config import PrepareConfig
from components.prepare.run import run
from shared.step import main

if __name__ == "__main__":
    main(run, PrepareConfig)
