"""Every command that writes files, killed at every place; see `kills.py`."""

import pytest

from tests.attack.kills import WRITERS, cases_of, with_exchanged
from tests.attack.trying import GOOD, Target


@pytest.fixture(scope="module")
def target():
    with Target.at() as target:
        target.build()
        with_exchanged(target)
        yield target


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_what_is_killed_anywhere_goes_on_to_the_same_end(name, target):
    tried = [target.attempt(case) for case in cases_of(target, name, WRITERS[name])]
    assert len(tried) > 3
    assert [
        (one.case.name, one.outcome, one.words) for one in tried if one.outcome not in GOOD
    ] == []
