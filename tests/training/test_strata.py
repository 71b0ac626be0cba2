"""One part of each of as many equal stretches."""

import numpy as np

from visavox.training.strata import choose


def test_each_stratum_gives_its_centre_or_one_at_random():
    assert choose(32, 4).tolist() == [4, 12, 20, 28]
    for seed in range(20):
        drawn = choose(10, 3, np.random.default_rng(seed))  # strata 0 to 2, 3 to 5, 6 to 9
        assert 0 <= drawn[0] < 3 <= drawn[1] < 6 <= drawn[2] < 10


def test_where_fewer_are_kept_than_wanted_neighbours_are_the_same():
    assert choose(3, 8).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert choose(1, 4, np.random.default_rng(0)).tolist() == [0, 0, 0, 0]
