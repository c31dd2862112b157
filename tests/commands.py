"""The command `lightning-id` as a user calls it."""

import pytest

from lightning_id.__main__ import main


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command says that is refused: its usage and one line."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    return capsys.readouterr().err
