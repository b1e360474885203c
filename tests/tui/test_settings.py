"""The settings file: what it may say, what is said of one that is wrong, and that saving leaves the rest of it alone."""

import os
from pathlib import Path

import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigpt.errors import UserError
from tui.settings import DEFAULTS, Settings, load_settings, save_setting, settings_file


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("MINIGPT_SETTINGS", str(path))
    return path


def refusal(file: Path, text: str | bytes) -> str:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        load_settings()
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_without_a_file_all_is_as_it_comes(file: Path) -> None:
    assert load_settings() == DEFAULTS == Settings()


def test_what_the_file_says_counts(file: Path) -> None:
    file.write_text('theme = "minigpt-light"\nmouse = false\nsmoothing = 0\n')
    assert load_settings() == Settings(theme="minigpt-light", mouse=False, smoothing=0.0)


def test_where_it_is_without_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MINIGPT_SETTINGS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert settings_file().name == "settings.toml"
    assert settings_file().parent.name == "minigpt-tui"


def test_all_problems_at_once(file: Path) -> None:
    """One after the other they'd take as many starts as there are mistakes."""
    message = refusal(file, 'thme = "nord"\nmouse = "no"\nsmoothing = 1.5\ntheme = "minigpt-drak"\nbell = 2026-01-01\n')
    assert "5 problems" in message
    for part in (
        "thme: unknown key; did you mean theme?",
        'mouse = "no": must be true or false',
        "smoothing = 1.5: must be a number from 0 (off) to 0.999",
        'theme = "minigpt-drak": must be one of auto, minigpt-dark',
        "did you mean minigpt-dark?",
        "bell = 2026-01-01: must be true or false",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"mouse = = 1", "is not valid TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"smoothing = " + b"9" * 5000, "too large"),
        (b"#" * 70_000, "too large for settings"),
        (b"mouse = 1", "must be true or false"),
        (b"bell = [true]", "must be true or false"),
        (b"smoothing = nan", "must be a number"),
        (b"smoothing = true", "must be a number"),
        (b"theme = 3", "must be one of"),
        (b'"\\u001b[2J" = 1', "unknown key"),
    ],
)
def test_what_is_said_of_a_bad_file(file: Path, content: bytes, said: str) -> None:
    message = refusal(file, content)
    assert said in message
    assert "\x1b" not in message


def test_a_directory_or_a_pipe_in_its_place(file: Path) -> None:
    """Opening a pipe waits for a writer: the program would never have begun."""
    os.mkfifo(file)
    with pytest.raises(UserError, match="no regular file"):
        load_settings()
    with pytest.raises(UserError):
        save_setting("bell", False)
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        load_settings()


# ── saving ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_saving_keeps_comments_and_what_it_does_not_know(file: Path) -> None:
    """The file is the user's: choosing a theme must not take the remarks out of it, nor a newer version's keys."""
    file.write_text('# mine\ntheme = "nord"  # for the evening\n\nfuture = 3\n\n[later]\nkey = "theme = 1"\n')
    save_setting("theme", "minigpt-light")
    save_setting("bell", False)
    expected = (
        '# mine\ntheme = "minigpt-light"  # for the evening\n\nfuture = 3\n\nbell = false\n[later]\nkey = "theme = 1"\n'
    )
    assert file.read_text() == expected


def test_the_first_setting_makes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "b" / "settings.toml"
    monkeypatch.setenv("MINIGPT_SETTINGS", str(path))
    save_setting("smoothing", 0.5)
    assert path.read_text() == "smoothing = 0.5\n"
    assert load_settings().smoothing == 0.5


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    """People keep such files in a repository of their own and link to them."""
    real = tmp_path / "dotfiles" / "minigpt.toml"
    real.parent.mkdir()
    real.write_text("bell = true\n")
    file.symlink_to(real)
    save_setting("bell", False)
    assert file.is_symlink()
    assert real.read_text() == "bell = false\n"


def test_a_file_that_cannot_be_written_is_a_message(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = file.parent / "blocked"
    blocked.write_text("")
    monkeypatch.setenv("MINIGPT_SETTINGS", str(blocked / "settings.toml"))
    with pytest.raises(UserError, match="settings"):
        save_setting("bell", False)
    monkeypatch.setenv("MINIGPT_SETTINGS", str(file))
    file.symlink_to(file.name)  # to itself
    with pytest.raises(UserError, match="settings"):
        save_setting("bell", False)


def test_a_read_only_file_is_left_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename could replace it all the same, but whoever made it read-only meant it."""
    file.write_text("bell = true\n")
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == file.resolve() and mode == os.W_OK))
    with pytest.raises(UserError, match="read-only"):
        save_setting("bell", False)
    assert file.read_text() == "bell = true\n"


def test_a_damaged_file_is_not_written_over(file: Path) -> None:
    file.write_text("bell = = true\n")
    with pytest.raises(UserError, match="not valid TOML"):
        save_setting("theme", "nord")
    assert file.read_text() == "bell = = true\n"


keys = st.sampled_from(["theme", "bell", "mouse", "smoothing", "future", "a b", "é"])
values = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(keys, values, max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables, st.sampled_from([("theme", "nord"), ("bell", False), ("smoothing", 0.25)]))
def test_saving_into_any_file_changes_one_key(
    file: Path, table: dict[str, object], setting: tuple[str, object]
) -> None:
    import tomli_w

    file.write_text(tomli_w.dumps(table))
    save_setting(*setting)  # type: ignore[arg-type]
    assert tomli.loads(file.read_text()) == {**table, setting[0]: setting[1]}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=60), tables.map(lambda table: __import__("tomli_w").dumps(table).encode())))
def test_any_file_is_read_or_refused(file: Path, content: bytes) -> None:
    """Whatever is in the file, the program says what is wrong with it, and does not end with a traceback."""
    file.write_bytes(content)
    try:
        read = load_settings()
    except UserError as error:
        assert str(file) in str(error)
    else:
        assert isinstance(read.bell, bool) and 0 <= read.smoothing < 1
