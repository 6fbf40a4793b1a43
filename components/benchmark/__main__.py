from components.benchmark.config import BenchmarkConfig
from components.benchmark.run import run
from shared.command import main

main(run, BenchmarkConfig)
