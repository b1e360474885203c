"""A run's losses as pictures, without a pane around them."""

from dataclasses import replace

from tui.charts.curves import mark_legend, picture_of
from tui.charts.plot import Picture
from tui.charts.quantities import LOSS, PERPLEXITY, quantities
from tui.charts.traces import Traces
from tui.charts.view import ChartView
from tui.run.following import Following


def loss_picture(following: Following, logarithmic: bool) -> Picture:
    """Training and validation loss over the steps."""
    return _picture(following, LOSS, logarithmic)


def perplexity_picture(following: Following, logarithmic: bool) -> Picture:
    """exp of both."""
    return _picture(following, PERPLEXITY, logarithmic)


def _picture(following: Following, name: str, logarithmic: bool) -> Picture:
    view = ChartView(logarithmic=frozenset({name} if logarithmic else ()))
    run, quantity = Traces(following), quantities(["train_loss", "val_loss"])[name]
    picture = picture_of([run], quantity, view, None)
    return replace(picture, legend=(*picture.legend, *mark_legend([run], [quantity])))
