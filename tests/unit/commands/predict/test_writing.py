import csv
import io
import json
import os

import numpy as np

from headstart.commands.predict.writing import make_writer, printable
from headstart.inference.classifier import Prediction

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
