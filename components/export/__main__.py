import sys

from components.export.config import ExportConfig
from components.export.offline import command as offline
from components.export.run import run
from components.export.synthesise import command as synthesise
from shared.command import main

match sys.argv[1:2]:
    case ["synthesise"]:
        synthesise.main(sys.argv[2:])
    case ["offline"]:
        offline.main(sys.argv[2:])
    case _:
        main(run, ExportConfig)
