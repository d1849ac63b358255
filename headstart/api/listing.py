"""The catalog of backbones as a table."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def backbones() -> "pd.DataFrame":
    """Return the catalog: a row per backbone, as `headstart backbones` lists them.

    Columns are those of `headstart backbones --json`; what is not published is missing.

    Examples:
        >>> import headstart
        >>> headstart.backbones().set_index("name").loc["EfficientNetLite0", "feature_dim"]
        np.int64(1280)
    """
    import pandas as pd

    from headstart.catalog import specs
    from headstart.catalog.facts import FACTS

    return pd.DataFrame([{name: of(spec) for name, of in FACTS.items()} for spec in specs()])
