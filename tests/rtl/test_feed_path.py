"""The feed path as a whole: pins in, best bid and offer out, against the golden model."""

import os

import pytest

from hw.rtl.card import FeedPath
from hw.rtl.params import CardParams
from sim.tb.feed_path import run_feed_path

SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
SMALL = {"symbol_count": 4, "order_count": 1024}


def test_bad_argument_is_refused():
    with pytest.raises(TypeError) as refused:
        FeedPath(8)
    assert str(refused.value) == "params must be a CardParams, not 8"


@pytest.mark.parametrize(
    ("width", "cut_through", "messages"),
    [(8, True, 50_000), (8, False, 3_000), (1, True, 2_000)],
)
def test_feed_path_is_the_golden_feed(width, cut_through, messages, real_data):
    print(f"seed {SEED}")
    params = CardParams(width=width, cut_through=cut_through, **SMALL)
    assert run_feed_path(params, messages, SEED, real_data) == 20
