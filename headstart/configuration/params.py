"""The whole of params.yaml, for what looks at several sections: commands and prepare."""

import difflib
from pathlib import Path
from typing import Any

from headstart.audit.options import AuditOptions
from headstart.common.params import PARAMS_FILE, Section, check, read_params
from headstart.configuration.check_options import CheckOptions
from headstart.dataset.options import PrepareOptions
from headstart.evaluation.options import EvaluateOptions, NoveltyOptions
from headstart.extraction.options import ExtractOptions
from headstart.finetuning.options import FinetuneOptions
from headstart.heads.options import TrainOptions
from headstart.pretraining.options import PretrainOptions
from headstart.report.options import ReportOptions


class Params(Section):
    """All sections, in their order in the file."""

    prepare: PrepareOptions
    pretrain: PretrainOptions
    extract: ExtractOptions
    train: TrainOptions
    finetune: FinetuneOptions
    novelty: NoveltyOptions
    audit: AuditOptions
    evaluate: EvaluateOptions
    check: CheckOptions
    report: ReportOptions


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        InputError: see `headstart.common.params.load_section`.
    """
    return check_params(read_params(path), path)


def check_params(content: Any, source: Path | str = PARAMS_FILE) -> Params:
    """Check the content of params.yaml.

    Sections of other names belong to stages of the user's own, and are left alone, unless they look
    like a section that is spelled wrong.

    Raises:
        InputError: see `headstart.common.params.check`.
    """
    known = list(Params.model_fields)
    if isinstance(content, dict):
        content = {
            name: section
            for name, section in content.items()
            if name in known or difflib.get_close_matches(str(name), known, cutoff=0.75)
        }
    return check(content, Params, source)
