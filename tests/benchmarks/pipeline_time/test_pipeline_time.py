"""How the marks of processes become times of steps."""

from tests.benchmarks.pipeline_time.__main__ import rows_of


def test_the_parts_of_a_step_are_its_time():
    """One that is watched from within, and one of which its begin alone is."""

    def mark(pid, mark, wall_s, cpu_s=0.0, children_s=0.0):
        return dict(pid=pid, mark=mark, wall_s=wall_s, cpu_s=cpu_s, children_s=children_s)

    own = [mark(1, "begins", 0), mark(1, "of demo_scenes", 1), mark(1, "process begins", 1)]
    own += [mark(1, "process ends", 2, children_s=1), mark(1, "of prepare", 3, children_s=1)]
    own += [mark(1, "process begins", 3, children_s=1), mark(1, "process ends", 20, children_s=9)]
    step = [mark(2, "begins", 3.5), mark(2, "step begins", 5, 1), mark(2, "work begins", 6, 2)]
    step += [mark(2, "work ends", 16, 4, 1), mark(2, "step ends", 18, 5, 2)]
    scenes, prepare = rows_of([*own, mark(3, "begins", 1.5), *step])
    assert (scenes["step"], scenes["all_s"], scenes["all_cpu_s"]) == ("demo_scenes", 1, 1)
    assert prepare["step"] == "prepare" and prepare["all_cpu_s"] == 8
    parts = ["begin", "open", "work", "close", "exit"]
    assert [prepare[f"{part}_s"] for part in parts] == [2, 1, 10, 2, 2]
    assert [prepare[f"{part}_cpu_s"] for part in parts] == [1, 1, 3, 2, 1]
