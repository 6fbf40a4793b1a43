"""The disk that all pods of a cluster share: what is too large for each pod to have a copy, and
what a pod that was ended leaves to the next.

    <workspace>/<run>/<step>/<turn>/<output>

The first pod that does a step of a run has turn 1, each that is started as it was lost the next. A
turn goes on with what the one before had done, in a folder of its own: so two pods never write to
one folder, also where the lost one is still alive. A lock cannot promise that: some network disks
know none between machines, others keep that of a dead one. The latest turn counts, an earlier one
ends when it sees it.
"""
