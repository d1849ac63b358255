import pytest

from headstart.common.errors import InputError
from headstart.common.params import check
from headstart.pretraining.options import PretrainOptions

RUN = {"backbone": "LeNet5", "seed": 0}


@pytest.mark.parametrize("name", ["../up", "a b", "", "x;y", "a.b", "-"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        check({"source": "photos", "runs": {name: RUN}}, PretrainOptions, "params.yaml", "pretrain")
    message = str(caught.value)
    assert message.startswith(
        f"params.yaml: pretrain.runs.{name}: nothing can be called {name!r}: the name stands in "
        "file names, so use letters, digits, '-' and '_'"
    )


def test_names_and_classes_may_be_of_any_language_and_numbers() -> None:
    content = {"source": "photos", "runs": {"숫자-0_4": {**RUN, "classes": [0, "일"]}}}
    options = check(content, PretrainOptions, "params.yaml")
    assert options.runs["숫자-0_4"].classes == ["0", "일"]


def test_a_source_of_its_own_is_refused() -> None:
    content = {"source": "photos", "runs": {"a": {**RUN, "source": "others"}}}
    with pytest.raises(InputError, match=r"runs\.a\.source: unknown key"):
        check(content, PretrainOptions, "params.yaml", "pretrain")
