"""The schedule has every fault of the proxy, follows from its seed, and ends with sound paths."""

from __future__ import annotations

import random

from tests.proxies.faults import FAULTS

from .schedule import FAULTY, LONG, SOUND, TROUBLES, kinds, schedule


def test_every_fault_of_the_proxy_is_there() -> None:
    assert kinds() == set(FAULTS)


def test_the_seed_repeats_it(rng: random.Random) -> None:
    seed = str(rng.getrandbits(32))
    assert schedule(seed, 300, 4) == schedule(seed, 300, 4)
    assert schedule(seed, 300, 4) != schedule(f"{seed}+", 300, 4)


def test_no_trouble_comes_again_before_all_others_have(rng: random.Random) -> None:
    steps = [step for step in schedule(str(rng.getrandbits(32)), 3600, 4) if step.rules]
    titles = [step.title for step in steps]
    pack = sorted(trouble.title for trouble in TROUBLES if trouble.rules)
    # Steps come in order of time, drawn from the pack in the same order.
    assert sorted(titles[: len(pack)]) == pack


def test_each_path_is_broken_and_sound_in_turn(rng: random.Random) -> None:
    seconds = 600.0
    steps = schedule(str(rng.getrandbits(32)), seconds, 3)
    assert [step.at for step in steps] == sorted(step.at for step in steps)
    assert steps[-1].at <= seconds
    for path in range(3):
        turns = [step for step in steps if step.path == path and step.title != "kill"]
        assert [step.title == "sound" for step in turns] == [False, True] * (len(turns) // 2)
        for begin, end in zip(turns[::2], turns[1::2], strict=True):
            assert 0 <= end.at - begin.at <= FAULTY[1]
        for end, begin in zip(turns[1:-1:2], turns[2::2], strict=True):
            assert SOUND[0] <= begin.at - end.at <= LONG[1]
