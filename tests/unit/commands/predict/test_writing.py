import csv
import io
import json
import os
from dataclasses import replace

import numpy as np

from headstart.commands.predict.writing import make_writer, printable
from headstart.evaluation.operating import OperatingPoint
from headstart.inference.classifier import Prediction
from headstart.scoring.conformal import ClassSets
from headstart.scoring.costs import NONE, CostRule

CLASSES = ("cat", "고양이, 흰", "dog")
KNOWN = Prediction("a,b.jpg", np.array([0.7, 0.1, 0.2]), 0.5, abstained=False)
STRANGE = Prediction("x.jpg", np.array([0.2, 0.5, 0.3]), 1.75, abstained=True)
UNTOLD = Prediction("y.jpg", np.array([0.5, 0.5, 0.0]), None, abstained=False)


def test_csv_can_be_read_back() -> None:
    header, write = make_writer("csv", CLASSES, 2)
    rows = list(csv.DictReader(io.StringIO(header + write([KNOWN, STRANGE]) + write([UNTOLD]))))
    assert rows[0] == {
        "path": "a,b.jpg", "prediction": "cat", "novelty": "0.5000", "abstained": "false",
        "class_1": "cat", "probability_1": "0.700000",
        "class_2": "dog", "probability_2": "0.200000",
    }  # fmt: skip
    assert (rows[1]["prediction"], rows[1]["abstained"]) == ("", "true")
    assert rows[1]["class_1"] == "고양이, 흰"
    assert (rows[2]["novelty"], rows[2]["class_1"]) == ("", "cat")


def test_json_is_one_object_per_line() -> None:
    header, write = make_writer("json", CLASSES, 9)
    first, second, third = map(json.loads, (header + write([KNOWN, STRANGE, UNTOLD])).splitlines())
    assert first["prediction"] == "cat"
    assert [entry["class"] for entry in first["classes"]] == ["cat", "dog", "고양이, 흰"]
    assert (first["abstained"], second["abstained"]) == (False, True)
    assert second["prediction"] is None
    assert second["novelty"] == 1.75
    assert third["novelty"] is None


def test_table_is_aligned_whatever_the_script() -> None:
    _, write = make_writer("table", CLASSES, 1)
    known, strange = write([KNOWN, STRANGE]).splitlines()
    assert known == "a,b.jpg  cat                novelty  0.50  cat 70.0%"
    assert strange == "x.jpg    (unlike training)  novelty  1.75  고양이, 흰 50.0%"
    assert "novelty" not in write([UNTOLD])
    assert write([]) == ""


def test_a_class_called_unknown_is_not_taken_for_abstaining() -> None:
    names = ("unknown", "dog")
    batch = [
        Prediction("a.jpg", np.array([0.9, 0.1]), 0.5, abstained=False),
        Prediction("b.jpg", np.array([0.9, 0.1]), 1.5, abstained=True),
    ]
    header, write = make_writer("csv", names, 1)
    told = [
        (row["prediction"], row["abstained"])
        for row in csv.DictReader(io.StringIO(header + write(batch)))
    ]
    assert told == [("unknown", "false"), ("", "true")]
    lines = map(json.loads, make_writer("json", names, 1)[1](batch).splitlines())
    assert [(one["prediction"], one["abstained"]) for one in lines] == [
        ("unknown", False),
        (None, True),
    ]
    known, strange = make_writer("table", names, 1)[1](batch).splitlines()
    assert known.split("  ")[1] == "unknown"
    assert strange.split("  ")[1] == "(unlike training)"


def test_any_file_name_can_be_printed() -> None:
    assert printable(os.fsdecode(b"caf\xe9.jpg")) == r"caf\xe9.jpg"
    assert printable("고양이.jpg") == "고양이.jpg"
    odd = Prediction(os.fsdecode(b"caf\xe9.jpg"), np.array([0.7, 0.1, 0.2]), None, abstained=False)
    for form in ("csv", "json", "table"):
        make_writer(form, CLASSES, 1)[1]([odd]).encode()


SETS = ClassSets(0.9, np.full(3, 0.15), np.full(3, 200))
POINT = OperatingPoint(CLASSES, SETS, CostRule.of({}, 0.2, CLASSES, np.ones(3)))
DECIDED = (
    replace(KNOWN, members=np.array([True, False, True]), decision=2),
    replace(UNTOLD, members=np.array([True, True, False]), decision=NONE),
    STRANGE,
)


def test_sets_and_decisions_can_be_read_back() -> None:
    header, write = make_writer("csv", CLASSES, 1, POINT)
    table = list(csv.DictReader(io.StringIO(header + write(DECIDED))))
    lines = [
        json.loads(one)
        for one in make_writer("json", CLASSES, 1, POINT)[1](DECIDED).split("\n")[:-1]
    ]
    expected = [
        (["cat", "dog"], "dog", None),
        (["cat", "고양이, 흰"], None, "cost"),
        (None, None, "novelty"),
    ]
    assert [(one["set"], one["decision"], one["reason"]) for one in lines] == expected
    for row, (members, decision, reason) in zip(table, expected, strict=True):
        assert (json.loads(row["set"]) if row["set"] else None) == members
        assert (row["decision"] or None, row["reason"] or None) == (decision, reason)


def test_a_table_shows_a_decision_that_is_not_the_likeliest() -> None:
    lines = make_writer("table", CLASSES, 1, POINT)[1](DECIDED).splitlines()
    assert lines[0].endswith("cat 70.0%  {cat, dog}  by cost dog")
    assert lines[1].endswith("cat 50.0%  {cat, 고양이, 흰}  by cost (none)")
    assert lines[2].endswith("고양이, 흰 50.0%")
    same = make_writer("table", CLASSES, 1, POINT)[1]([replace(DECIDED[0], decision=0)])
    assert same.endswith("cat 70.0%  {cat, dog}\n")


def test_only_what_was_asked_for_is_written() -> None:
    plain = make_writer("csv", CLASSES, 1)[0]
    for sets, costs, added in ((SETS, None, "set,"), (None, POINT.costs, "decision,reason,")):
        header = make_writer("csv", CLASSES, 1, OperatingPoint(CLASSES, sets, costs))[0]
        assert header.replace(added, "") == plain != header
