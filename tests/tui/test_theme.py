"""The themes: everything in them can be read, and each terminal gets one that it can show."""

import re
from pathlib import Path

import pytest
from rich.color import Color as RichColor
from rich.color import ColorSystem
from rich.style import Style
from textual.color import Color
from textual.theme import BUILTIN_THEMES, Theme

import tui
from tui.settings import AUTO
from tui.terminal.no_color import without_colors
from tui.theme import DARK, LIGHT, SIXTEEN, THEMES, theme_for, theme_names

BACKGROUNDS = ("background", "surface", "panel")
TEXTS = ("foreground", "primary", "accent", "success", "warning", "error", "secondary")
PAIRS = (
    ("block-cursor-foreground", "block-cursor-background"),
    ("block-cursor-blurred-foreground", "block-cursor-blurred-background"),
    ("footer-key-foreground", "footer-background"),
    ("input-selection-foreground", "input-selection-background"),
)


def luminance(color: Color) -> float:
    """The relative luminance of WCAG 2."""
    parts = [part / 255 for part in color.rgb]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Color, other: Color) -> float:
    """WCAG's ratio: 1 for the same colour, 21 for black and white."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def seen(text: str, background: Color) -> Color:
    """The colour that a variable of the theme gives on a background: "#rrggbb", "#rrggbb 60%" or "auto 60%"."""
    name, _, share = text.partition(" ")
    color = background.get_contrast_text(1.0) if name == "auto" else Color.parse(name)
    alpha = float(share.rstrip("%")) / 100 if share else color.a
    return background.blend(color, alpha, alpha=1.0)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_text_can_be_read(theme) -> None:
    """Grey on grey is what a picture of a theme looks fine with, and what nobody reads in the sun: WCAG AA asks for 4.5."""
    variables = {**theme.to_color_system().generate(), **theme.variables}
    for name in BACKGROUNDS:
        background = Color.parse(variables[name])
        for text in TEXTS:
            ratio = contrast(seen(variables[text], background), background)
            assert ratio >= 4.5, f"{text} on {name} of {theme.name}: {ratio:.2f}"
    for text, name in PAIRS:
        if name in variables and text in variables:
            background = seen(variables[name], Color.parse(variables["background"]))
            ratio = contrast(seen(variables[text], background), background)
            assert ratio >= 4.5, f"{text} on {name} of {theme.name}: {ratio:.2f}"


def used_shades() -> set[tuple[str, float]]:
    """Each variable that the styles use for text, with its share, such as `$foreground 60%`."""
    found = set()
    for path in Path(tui.__file__).parent.rglob("*.tcss"):
        for name, share in re.findall(r"(?<![\w-])color:\s*\$([\w-]+)(?:\s+(\d+)%)?", path.read_text(encoding="utf-8")):
            found.add((name, float(share or 100) / 100))
    return found


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
def test_what_the_styles_make_of_the_colours_can_be_read(theme: Theme) -> None:
    """A share of a colour is nearer to the background than the colour itself: muted text was too pale on light grounds.

    Of frames, axes and the curve behind the smoothed one less is asked.
    """
    variables = {**theme.to_color_system().generate(), **theme.variables}
    assert used_shades()
    shades = used_shades() | {("foreground", 0.6)}  # which the code uses too
    for name, share in sorted(shades):
        if name not in variables or name in {"text-disabled", "background", "surface"} or "block-cursor" in name:
            continue
        is_line = name.startswith("panel-") or (name, share) in {("foreground", 0.35), ("primary", 0.65)}
        for ground in ("background",) if is_line else BACKGROUNDS:
            background = Color.parse(variables[ground])
            color = background.blend(seen(variables[name], background), share, alpha=1.0)
            ratio = contrast(color, background)
            assert ratio >= (2 if is_line else 4.5), f"${name} {share:.0%} on {ground} of {theme.name}: {ratio:.2f}"


def test_sixteen_colours_stay_apart() -> None:
    """The dark theme's greys all became the same black of a terminal with 16 colours: the cursor could not be seen."""
    shown = {
        name: RichColor.parse(value).downgrade(ColorSystem.STANDARD).number
        for name, value in {**SIXTEEN.to_color_system().generate(), **SIXTEEN.variables}.items()
        if re.fullmatch(r"#[0-9A-Fa-f]{6}", value)
    }
    for name in TEXTS:
        for background in BACKGROUNDS:
            assert shown[name] != shown[background]
    for text, background in PAIRS:
        assert shown[text] != shown[background]
    assert len({shown[name] for name in ("foreground", "primary", "accent", "success", "error", "secondary")}) == 6


@pytest.mark.parametrize(
    ("chosen", "colors", "expected"),
    [
        (AUTO, "truecolor", DARK.name),
        (AUTO, "256", DARK.name),
        (AUTO, "standard", SIXTEEN.name),
        (AUTO, None, SIXTEEN.name),
        (LIGHT.name, "standard", LIGHT.name),
    ],
)
def test_the_theme_to_begin_with(chosen: str, colors: str | None, expected: str) -> None:
    assert theme_for(chosen, colors) == expected


def test_every_theme_that_can_be_chosen_has_a_name() -> None:
    assert theme_names()[:3] == ["minigpt-dark", "minigpt-light", "minigpt-16"]
    assert set(BUILTIN_THEMES) <= set(theme_names())


def test_without_colours_what_is_chosen_is_reversed_and_all_else_is_not() -> None:
    """In greys the chosen row had a background of its own; without any colour it would be like the others."""
    assert {theme_for(chosen, "truecolor", no_color=True) for chosen in (AUTO, *theme_names())} == {SIXTEEN.name}
    variables = {**SIXTEEN.to_color_system().generate(), **SIXTEEN.variables}

    def shown(letters: str, behind: str, style: str = "") -> Style:
        style_shown = without_colors(Style.parse(f"{style} {variables[letters]} on {variables[behind]}"))
        assert style_shown.color is None
        assert style_shown.bgcolor is None
        return style_shown

    assert shown("block-cursor-foreground", "block-cursor-background").reverse
    assert shown("block-cursor-blurred-foreground", "block-cursor-blurred-background").reverse
    assert shown("input-selection-foreground", "input-selection-background").reverse
    assert shown("foreground", "background", "reverse").reverse
    assert not shown("background", "foreground", "reverse").reverse
    for behind in BACKGROUNDS:
        for letters in TEXTS:
            assert not shown(letters, behind).reverse
            assert not shown(letters, behind).dim
    assert shown("foreground", "background", "bold").bold
    assert shown("panel-lighten-1", "background").dim  # frames stay behind what they frame
    assert without_colors(Style(reverse=True)).reverse
    assert not without_colors(Style()).reverse
