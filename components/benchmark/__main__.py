from components.benchmark.config import BenchmarkConfig
from components.benchmark.run import run
from shared.step import main

main(run, BenchmarkConfig)
