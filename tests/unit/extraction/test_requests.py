"""Requests by columns are what a list of requests is."""

import numpy as np

from headstart.extraction.requests import Request, Requests


def test_each_request_is_made_when_it_is_asked_for():
    wanted = [Request(f"{i}.jpg", f"{i:064x}", i % 2) for i in range(5)]
    requests = Requests(
        np.array([one.path for one in wanted], object),
        np.array([list(bytes.fromhex(one.sha256)) for one in wanted], np.uint8),
        np.array([one.view for one in wanted], np.int32),
    )
    assert len(requests) == 5
    assert list(requests) == wanted
    assert requests[-1] == wanted[-1]
    assert list(requests[1:3]) == wanted[1:3]
