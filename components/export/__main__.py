import sys

from components.export.config import ExportConfig
from components.export.run import run
from components.export.synthesise import command as synthesise
from shared.command import main

if sys.argv[1:2] == ["synthesise"]:
    synthesise.main(sys.argv[2:])
else:
    main(run, ExportConfig)
