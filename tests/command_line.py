"""What the tests of all commands share."""

import pytest

from minigpt.cli import main


def lines_without_screen(output: str) -> list[str]:
    """The output of a training but for the lines that say how it goes on."""
    return [line for line in output.splitlines() if not line.startswith("#")]


def assert_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *parts: str) -> str:
    """Run the command; it must end with exit code 2 and exactly one message on stderr, which has all the parts."""
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert lines_without_screen(out) == []
    assert err.startswith("minigpt: ")
    assert err.count("minigpt: ") == 1
    assert "Traceback" not in err
    assert "\x1b" not in err
    for part in parts:
        assert part in err
    return err
