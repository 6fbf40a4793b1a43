from components.export.config import ExportConfig
from components.export.run import run
from shared.step import main

main(run, ExportConfig)
