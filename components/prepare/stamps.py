"""How a file on this machine is known to be the one it was."""

import os


def file_stamp(status: os.stat_result) -> str:
    """Size and times of a file: changes whenever the file does.

    Also the time of its last change of any kind (ctime), which no program can set: a tool that
    copies or edits may put the other one back.
    """
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
