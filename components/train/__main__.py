from components.train.config import TrainConfig
from components.train.run import run
from shared.step import main

if __name__ == "__main__":
    main(run, TrainConfig)
