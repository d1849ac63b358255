"""One fine-tuning run, from cached features and a trained head to a model and its probabilities."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.catalog import building
from headstart.catalog.readout import Readout
from headstart.catalog.weights import resolve
from headstart.common.cache import changing, claim
from headstart.common.code import digest_of_code
from headstart.common.files import digest_of, sha256_of
from headstart.common.progress import notify
from headstart.common.system_errors import writing
from headstart.common.temporaries import temporary_folder
from headstart.common.tensorflow_runtime import dtype_policy, keras, seed_everything
from headstart.common.vocabulary import DROPPED, SPLITS
from headstart.dataset.manifest import Manifest
from headstart.extraction.bottleneck import Bottleneck, recover
from headstart.extraction.store import FeatureStore
from headstart.features.file import FeatureFile
from headstart.finetuning.assembly import Assembly
from headstart.finetuning.batches import BatchSource
from headstart.finetuning.checkpoint import Checkpoint, TrainingState
from headstart.finetuning.head_layers import head_layers
from headstart.finetuning.live import LiveImages
from headstart.finetuning.options import FinetuneOptions
from headstart.finetuning.parity import Parity, check_parity
from headstart.finetuning.plan import Hardware, Step, choose_hardware, plan_steps
from headstart.finetuning.saving import save_weights
from headstart.finetuning.training import Examples, Phase, predict, train
from headstart.finetuning.trunk import cache_trunk, trunk_bytes
from headstart.heads.base import CARD_FILE, HELD_OUT_FILE, Head, HeadCard
from headstart.heads.data import TrainingData, describe_bytes
from headstart.heads.finetuned_card import KIND, TEST_FILE, FinetunedCard, Start, remove
from headstart.heads.folds import Fold
from headstart.scoring.calibration import FEWEST_UNITS, fit_temperature, softmax
from headstart.scoring.choosing import temperatures_across
from headstart.scoring.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class FinetuneRun:
    """What a run starts from.

    Attributes:
        file: The cached features.
        manifest: Their images.
        data: Rows, labels and class weights of training and validation.
        head: The head to start from.
        head_folder: Where it lies, models/heads/<its name>.
        options: The section `finetune`.
        store: The feature store; checkpoints and the files of cached activations lie beside it.
    """

    file: FeatureFile
    manifest: Manifest
    data: TrainingData
    head: Head
    head_folder: Path
    options: FinetuneOptions
    store: FeatureStore


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What a run came to.

    Attributes:
        card: Of the model.
        logits: (n_images, n_classes) of all images themselves, in the order of `rows`.
        rows: (n_images,) rows of the feature file.
        validation: (n_validation, n_classes) probabilities of the validation images by what
            others of them choose: the epoch, and the temperature.
        history: Scores by epoch.
        best_epoch: The epoch whose weights were kept; 0 means those of the start.
        steps: Which part learned when.
        trunk: Whether the frozen part ran once ("cached") or in every epoch ("live").
        parity: How far the model was from the cached head before the first step; None where
            nothing of the head was carried over.
        seconds: Time of the epochs.
        trained_parameters: How many values the last step, which learns the most, could change.
    """

    card: FinetunedCard
    logits: NDArray[np.float64]
    rows: NDArray[np.int64]
    validation: NDArray[np.float64]
    history: list[dict[str, float]]
    best_epoch: int
    steps: tuple[Step, ...]
    trunk: str
    parity: Parity | None
    seconds: float
    trained_parameters: int


def finetune(run: FinetuneRun, folder: Path) -> FinetuneResult:
    """Fine-tune, and write model, card and probabilities into `folder`.

    A run that was killed goes on from its last finished epoch. While another process does the same
    run, this one waits.

    Raises:
        InputError: head, cut or precision cannot be used, the features were made by another
            extractor, or the assembled model does not say what the cached head says.
    """
    options = run.options
    seed_everything(options.seed)
    scratch = options.unfreeze == "scratch"
    run.head.check_features(run.file.header, run.file.path)
    bottleneck = recover(run.file.header.identity)
    hardware = choose_hardware(options)
    with ExitStack() as held:
        with hardware.scope():
            assembly = _assemble(run, bottleneck, hardware)
            steps = plan_steps(assembly.backbone, options)
            trunk = "cached" if _fits(run, steps) else "live"
            run_folder = run.store.runs / _digest(run, trunk)
            held.enter_context(changing(run.store.root))
            held.enter_context(claim(run_folder))
            sources = _sources(run, steps, bottleneck, trunk, held)
            parity = None
            if not scratch:
                tap = bottleneck.taps[0]
                precision = "bfloat16" if options.precision == "mixed" else tap.precision
                parity = check_parity(
                    assembly, steps[0].cut, sources[0], run.head, run.file, precision
                )
            checkpoint = Checkpoint(run_folder)
            state = _train(run, assembly, steps, sources, checkpoint, hardware)
            rows = run.file.rows(*SPLITS, DROPPED)
            model = _model(assembly, steps[-1], sources[-1])
            assembly.set_trainable(steps[-1].cut)
            learned = sum(math.prod(one.shape) for one in model.trainable_variables)
            logits = predict(model, sources[-1], rows, options.batch_size)
        remove(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        card, validation = _write(run, assembly, steps, state, rows, logits, folder)
        checkpoint.remove()
    return FinetuneResult(
        card=card,
        logits=logits,
        rows=rows,
        validation=validation,
        history=state.history,
        best_epoch=state.best_epoch,
        steps=steps,
        trunk=trunk,
        parity=parity,
        seconds=state.seconds,
        trained_parameters=learned,
    )


def _assemble(run: FinetuneRun, bottleneck: Bottleneck, hardware: Hardware) -> Assembly:
    options, spec = run.options, bottleneck.spec
    scratch = options.unfreeze == "scratch"
    weights = resolve(spec, "random", options.seed) if scratch else bottleneck.weights
    tap = bottleneck.taps[0]
    readout = Readout.of(spec, tap.pooling, tap.image_size)
    with dtype_policy(hardware.policy):
        backbone = readout.up_to(building.build(spec, tap.image_size, weights), tap.layer)
    return Assembly(
        backbone,
        spec.preprocessing,
        readout,
        head_layers(run.head, keep_weights=not scratch),
        # Random weights have no statistics to keep.
        learn_statistics=scratch or options.batch_norm == "train",
    )


def _fits(run: FinetuneRun, steps: tuple[Step, ...]) -> bool:
    """Decide whether to cache, and say what it takes."""
    if run.options.trunk == "live" or all(step.cut is None for step in steps):
        return False
    size = trunk_bytes(steps, len(run.file))
    if size <= run.options.max_cache:
        print(f"caching the frozen part's activations: {describe_bytes(size)} of disk")
        return True
    notify(
        f"caching the frozen part's activations would take {describe_bytes(size)} of disk, more "
        f"than finetune.max_cache ({describe_bytes(run.options.max_cache)}): it runs live, in "
        "every epoch, instead"
    )
    return False


def _sources(
    run: FinetuneRun, steps: tuple[Step, ...], bottleneck: Bottleneck, trunk: str, held: ExitStack
) -> list[BatchSource]:
    cached: dict[str, Any] = {}
    if trunk == "cached":
        folder = held.enter_context(temporary_folder(run.store.runs))
        cached = dict(
            cache_trunk(
                steps, bottleneck, run.file, run.manifest, run.store, folder, run.options.on
            )
        )
    live = LiveImages(run.file, run.manifest)
    return [live if step.cut is None else cached.get(step.cut, live) for step in steps]


def _train(
    run: FinetuneRun,
    assembly: Assembly,
    steps: tuple[Step, ...],
    sources: list[BatchSource],
    checkpoint: Checkpoint,
    hardware: Hardware,
) -> TrainingState:
    factors = assembly.learning_rate_factors(run.options.layer_decay)
    phases = [
        Phase(
            epochs=step.epochs,
            source=source,
            model=_model(assembly, step, source),
            enter=_entering(assembly, step.cut),
            factors=factors,
        )
        for step, source in zip(steps, sources, strict=True)
    ]
    data, labels = run.data, run.file.label
    validation = data.validation
    if not data.validation_stops:
        notify(
            "warning: every epoch is trained and the last one's weights are kept, since "
            + (
                "of few shots (train.shots) none may be spared to stop the training"
                if data.shots is not None
                else "validation cannot stop the training: expected validation images of every "
                f"class and {FEWEST_UNITS} units of them in all (images that belong together "
                "count once)"
            )
        )
        validation = validation[:0]
    examples = Examples(
        train=data.train,
        validation=validation,
        targets=np.eye(data.n_classes, dtype=np.float32)[labels],
        weights=data.loss_weight[labels].astype(np.float32),
        held_out=data.held_out((Fold(data.train, validation),)),
        log_prior=data.log_prior.astype(np.float32),
    )
    # The lowest cut comes last, so its model holds whatever any phase may change.
    variables = assembly.logits_from(steps[-1].cut).variables
    return train(
        phases,
        variables,
        examples,
        run.options,
        checkpoint,
        loss_scaling=hardware.loss_scaling,
        start_counts=run.options.unfreeze != "scratch",
    )


def _model(assembly: Assembly, step: Step, source: BatchSource) -> keras.Model:
    return assembly.logits_from(step.cut, images=isinstance(source, LiveImages))


def _entering(assembly: Assembly, cut: str | None) -> Callable[[], None]:
    return lambda: assembly.set_trainable(cut)


def _write(
    run: FinetuneRun,
    assembly: Assembly,
    steps: tuple[Step, ...],
    state: TrainingState,
    rows: NDArray[np.int64],
    logits: NDArray[np.float64],
    folder: Path,
) -> tuple[FinetunedCard, NDArray[np.float64]]:
    """Write the model; return its card and the probabilities of the validation images."""
    data, head, start = run.data, run.head, run.head.card
    chosen = np.isin(rows, data.validation)
    temperature = 1.0
    fair = state.fair_logits if data.validation_stops else logits[chosen]
    validation = softmax(fair)
    # The start's logits are calibrated already: on more images, and by folds where they are few.
    calibrated = state.best_epoch == 0 and run.options.unfreeze != "scratch"
    # Validation images teach nothing beside a few shots.
    if not calibrated and data.shots is None and chosen.any():
        held_out = data.held_out((Fold(data.train, data.validation),))
        temperature = fit_temperature(logits[chosen], held_out.label, held_out.unit) or 1.0
        validation = softmax(fair, temperatures_across(fair, held_out, temperature))
    card = FinetunedCard(
        head=HeadCard(
            kind=KIND,
            # Where the trunk ran is no part of what came of it.
            options=run.options.model_dump(mode="json", exclude={"on"}),
            class_names=start.class_names,
            identity=run.file.header.identity,
            feature_shape=start.feature_shape,
            training=data.settings,
            data_digest=data.digest,
            selected_by="validation" if data.validation_stops else "default",
            setting={"epochs": state.best_epoch},
            curve=[],
            temperature=temperature,
            refit=False,
            parameters=int(assembly.logits_from(None).count_params()),
        ),
        start=Start(
            name=run.head_folder.name,
            kind=head.kind,
            options=start.options,
            seed=head.seed,
            card_sha256=sha256_of(run.head_folder / CARD_FILE),
        ),
        cut=steps[-1].cut,
    )
    save_weights(assembly, folder)
    image = run.file.image[rows]
    test = np.isin(run.file.split[rows], ("test", DROPPED))
    for name, wanted, probabilities in (
        (HELD_OUT_FILE, chosen, validation),
        (TEST_FILE, test, softmax(logits[test], temperature)),
    ):
        if wanted.any():
            Predictions(image[wanted], probabilities).write(folder / name)
    card.write(folder)
    return card, validation


def _digest(run: FinetuneRun, trunk: str) -> str:
    """Return a digest of all that decides the run: only its own state is ever taken up."""
    file, data = run.file, run.data
    columns = [file.sha256.tolist(), file.split.tolist(), file.label.tolist(), file.view.tolist()]
    return digest_of(
        {
            "options": run.options.model_dump(mode="json", exclude={"on"}),
            "fingerprint": file.header.identity.fingerprint,
            "augment": file.header.augment,
            "columns": columns,
            "train": data.train.tolist(),
            "class_weight": data.class_weight.tolist(),
            "log_prior": data.log_prior.tolist(),
            "shots": data.shots,
            "seed": data.seed,
            "head": sha256_of(run.head_folder / CARD_FILE),
            "trunk": trunk,
            "code": digest_of_code(["catalog", "finetuning", "heads", "scoring"]),
            "versions": {name: version(name) for name in ("keras", "tensorflow", "numpy")},
        }
    )
