from components.cluster.config import ClusterConfig
from components.cluster.run import run
from shared.command import main

if __name__ == "__main__":
    main(run, ClusterConfig)
