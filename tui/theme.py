"""The two themes of the app, one for dark terminals and one for light ones."""

from textual.theme import Theme

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
    success="#1c7a43",
    warning="#8a5a00",
    error="#b3261e",
    foreground="#1b222b",
    background="#f7f8fa",
    surface="#eceff3",
    panel="#dde2e9",
    variables={
        "block-cursor-background": "#0b5cad",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#dde2e9",
        "block-cursor-blurred-foreground": "#1b222b",
        "block-cursor-blurred-text-style": "none",
        "footer-background": "#eceff3",
        "footer-key-foreground": "#8a5a00",
    },
)
