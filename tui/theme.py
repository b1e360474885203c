"""The themes of the app: for dark terminals, for light ones, and for those with 16 colours or none."""

from textual.theme import BUILTIN_THEMES, Theme

from tui.settings import AUTO

DARK = Theme(
    name="minigpt-dark",
    dark=True,
    primary="#5aa9ff",
    secondary="#b18cff",
    accent="#f2b84b",
    success="#63c98c",
    warning="#f2b84b",
    error="#ff7a7a",
    foreground="#d9e0e8",
    background="#0f1318",
    surface="#151a21",
    panel="#202833",
    variables={
        "block-cursor-background": "#24507f",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#202833",
        "block-cursor-blurred-foreground": "#d9e0e8",
        "block-cursor-blurred-text-style": "none",
        "footer-background": "#151a21",
        "footer-key-foreground": "#f2b84b",
    },
)

LIGHT = Theme(
    name="minigpt-light",
    dark=False,
    primary="#0b5cad",
    secondary="#6a3fc4",
    accent="#8a5a00",
    success="#0f5730",
    warning="#8a5a00",
    error="#b3261e",
    foreground="#080c12",
    background="#f7f8fa",
    surface="#eceff3",
    panel="#dde2e9",
    variables={
        # What is lighter than a panel on the dark theme, such as frames and axes, has to be darker here.
        "panel-lighten-1": "#b4bdc8",
        "panel-lighten-2": "#7d8794",
        "block-cursor-background": "#0b5cad",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#dde2e9",
        "block-cursor-blurred-foreground": "#080c12",
        "block-cursor-blurred-text-style": "none",
        "footer-background": "#eceff3",
        "footer-key-foreground": "#8a5a00",
    },
)

SIXTEEN = Theme(
    name="minigpt-16",
    dark=True,
    # Exactly the colours that a terminal of 16 has: any other would become its nearest neighbour, and text and
    # background often the same one.
    primary="#55ffff",
    secondary="#ff55ff",
    accent="#ffff55",
    success="#55ff55",
    warning="#ffff55",
    error="#ff5555",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    variables={
        "panel-lighten-1": "#555555",
        "panel-lighten-2": "#aaaaaa",
        "text-disabled": "#aaaaaa",
        "foreground-disabled": "#aaaaaa",
        "border-blurred": "#555555",
        "block-cursor-background": "#aaaaaa",
        "block-cursor-foreground": "#000000",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#555555",
        "block-cursor-blurred-foreground": "#ffffff",
        "block-cursor-blurred-text-style": "none",
        "input-selection-background": "#aaaaaa",
        "input-selection-foreground": "#000000",
        "footer-background": "#000000",
        "footer-key-foreground": "#ffff55",
    },
)

THEMES = (DARK, LIGHT, SIXTEEN)


def theme_names() -> list[str]:
    """Every theme that can be chosen, this program's own first."""
    return [*(theme.name for theme in THEMES), *BUILTIN_THEMES]


def theme_for(chosen: str, color_system: str | None, *, no_color: bool = False) -> str:
    """The theme to begin with: the one chosen, or for "auto" one that the terminal's colours can show.

    With `no_color` it is always the one whose backgrounds tell what is chosen, and nothing else.

    `color_system` is rich's word for them, as in `app.console.color_system`: "truecolor", "256", "standard" for 16.
    """
    if no_color:
        return SIXTEEN.name
    if chosen != AUTO:
        return chosen
    return DARK.name if color_system in {"truecolor", "256"} else SIXTEEN.name
