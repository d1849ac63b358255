"""Where the stages hand things over, relative to the project's folder; dvc.yaml says the same."""

from pathlib import Path

SAMPLES = Path("data/samples")

MANIFEST = Path("data/manifest.csv")
MANIFEST_DIGEST = Path("data/manifest.csv.sha256")
PRETRAIN_STATE = Path("data/pretrain_source.txt")
"""Differs when a photo of pretrain.source has changed."""
QUARANTINE = Path("data/quarantine.csv")
LEAKS = Path("data/leaks.csv")
FEATURE_LEAKS = Path("data/feature_leaks.csv")
CORRECTIONS = Path("data/corrections.csv")
"""The corrections that were applied, as the photos of this run have them."""
AUDIT = Path("data/audit.csv")
AUDIT_NEIGHBORS = Path("data/audit_neighbors.csv")
WEAK_CLUSTERS = Path("data/weak_clusters.csv")

FEATURES = Path("features/bottleneck.h5")
PARTS = Path("features/parts.json")
"""Into how many parts `headstart parts` divides the extraction, and of what."""

PRETRAINED = Path("models/pretrained")
PRETRAINED_INDEX = "runs.sha256.json"
"""Lists all runs, in their folder; no run can be called so, since a name holds no dot."""
HEADS = Path("models/heads")
START = Path("models/start")
"""The head that fine-tuning starts from, alone, so that no other head's edit repeats it."""
FINETUNED = Path("models/finetuned")
NOVELTY = Path("models/novelty.h5")
OPERATING = Path("models/operating.json")
"""At which probabilities models name a class, several or none."""

DATA_METRICS = Path("metrics/data.json")
EXTRACT_METRICS = Path("metrics/extract.json")
HEADS_METRICS = Path("metrics/heads.json")
NOVELTY_METRICS = Path("metrics/novelty.json")
AUDIT_METRICS = Path("metrics/audit.json")
FINETUNE_METRICS = Path("metrics/finetune.json")
TEST_METRICS = Path("metrics/test.json")
SUMMARY_METRICS = Path("metrics/summary.json")

VIEWS_PLOT = Path("plots/views.png")
HEADS_PLOTS = Path("plots/heads")
FINETUNED_PLOTS = Path("plots/finetuned")
CURVES = Path("plots/curves")
TEST_PLOTS = Path("plots/test")
COMPARISON = Path("plots/comparison.json")

PREDICTIONS = Path("predictions")
REPORT = Path("report/index.html")
