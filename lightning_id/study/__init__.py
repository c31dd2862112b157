"""Many runs: does the last hidden dimension predict generalisation?"""

from lightning_id.study.analysis import analyse
from lightning_id.study.runs import run
from lightning_id.study.table import collect

__all__ = ["analyse", "collect", "run"]
