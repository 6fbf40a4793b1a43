from components.cluster.config import ClusterConfig
from components.cluster.run import run
from shared.step import main

if __name__ == "__main__":
    main(run, ClusterConfig)
