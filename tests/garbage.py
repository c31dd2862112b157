"""A pytest plugin that leaves imports and collected tests out of garbage collections.

Collections took a fifth of the time of collecting the tests, and a tenth of that of running them.
"""

import gc

gc.disable()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()
