from components.train.config import TrainConfig
from components.train.run import run
from shared.command import main

if __name__ == "__main__":
    main(run, TrainConfig)
