"""The table of presets: what a new training can begin from, and how large its model is."""

from collections.abc import Mapping, Sequence

from textual.binding import Binding

from minigpt.presets import Preset
from tui.figures import short_count
from tui.widgets.row_table import Entry, Field, RowTable

_UNKNOWN = "—"
_FIELDS = (Field("preset"), Field("what it is for", flexible=True), Field("parameters", "right"))


class PresetTable(RowTable):
    """Shows presets; their numbers of parameters come later, with `show_counts`."""

    BINDING_GROUP_TITLE = "Presets"
    BINDINGS = [Binding("enter", "select_cursor", "start", tooltip="start a training with the preset's settings")]

    def __init__(self, presets: Sequence[Preset], *, id: str) -> None:
        super().__init__(_FIELDS, id=id)
        self._presets = presets

    @property
    def chosen_preset(self) -> Preset | None:
        """The preset under the cursor."""
        return next((preset for preset in self._presets if preset.name == self.chosen), None)

    def show_counts(self, counts: Mapping[str, str]) -> None:
        """Show the presets with what is known of their numbers of parameters, by preset."""
        self.show(
            [Entry(preset.name, (preset.name, preset.about, counts.get(preset.name, ""))) for preset in self._presets]
        )


def parameter_counts(presets: Sequence[Preset]) -> dict[str, str]:
    """How many parameters the presets' models have, in words. For a thread: this loads pydantic and torch."""
    from minigpt.configfile import load_config

    configs = {}
    counts = {}
    for preset in presets:
        try:
            configs[preset] = load_config(preset.path)
        except Exception:  # noqa: BLE001 - a preset that cannot be read says why when it is started
            counts[preset.name] = _UNKNOWN
    from minigpt.corpus import vocab_size_of
    from minigpt.model import count_parameters

    for preset, config in configs.items():
        counts[preset.name] = _UNKNOWN
        try:
            counts[preset.name] = short_count(count_parameters(config.model, vocab_size_of(config)))
        except Exception:  # noqa: BLE001 - likewise
            continue
    return counts
