"""Fingerprints decide whether cached features and trained heads are found again."""

from headstart.features.identity import FeatureIdentity
from tests.feature_files import make_identity


def test_earlier_features_and_heads_are_found_again() -> None:
    identity = make_identity()
    # As of version 0.1, before there were networks of ONNX files.
    assert identity.fingerprint == (
        "ccfc7357ac0883c53284ab8627ece169bae239fc18a561d92fc84d8e05899879"
    )
    assert identity.feature_digest == (
        "9f5bcf26715506d584a6e407d67956dd2639eb2e011a561d9d665913f2a8a66c"
    )
    assert not {"onnx", "store_dtype"} & identity.as_dict().keys()


def test_what_is_stored_in_halves_is_other_numbers_and_serves_the_same_heads() -> None:
    identity, halves = make_identity(), make_identity(store_dtype="float16")
    assert halves.as_dict()["store_dtype"] == "float16"
    assert halves.fingerprint != identity.fingerprint
    assert halves.feature_digest == identity.feature_digest


def test_records_lead_back() -> None:
    changes: tuple[dict[str, object], ...] = (
        {},
        {"onnx": '{"scale":1.0}'},
        {"store_dtype": "float16"},
    )
    for identity in (make_identity(**change) for change in changes):
        assert FeatureIdentity.from_dict(identity.as_dict()) == identity
