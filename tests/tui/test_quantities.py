"""Which charts a file of metrics allows, and what they are called."""

from hypothesis import given
from hypothesis import strategies as st

from minigpt.inert import inert_pane
from tui.charts.quantities import LOSS, PERPLEXITY, figure, quantities

_OF_A_RUN = (
    *(
        "tokens",
        "epoch",
        "elapsed",
        "train_eval_loss",
        "train_eval_perplexity",
        "train_eval_accuracy",
        "train_eval_bpc",
    ),
    *("val_loss", "val_perplexity", "val_accuracy", "val_bpc", "train_loss", "learning_rate", "grad_norm"),
    *("tokens_per_second", "memory_rss", "cuda_peak"),
)


def test_the_metrics_of_a_run() -> None:
    """Guards what is drawn together: both losses, both perplexities, and each pair of evaluations."""
    found = quantities(_OF_A_RUN)
    assert list(found)[:3] == [LOSS, PERPLEXITY, "learning_rate"]
    assert [series.metric for series in found[PERPLEXITY].series] == ["train_loss", "val_loss"]
    assert [series.metric for series in found["accuracy"].series] == ["train_eval_accuracy", "val_accuracy"]
    assert [series.metric for series in found["evaluated_loss"].series] == ["train_eval_loss", "val_loss"]
    assert found["bpc"].title == "bits per character" and found["tokens_per_second"].unit == "tokens/s"
    assert not {"tokens", "elapsed", "val_perplexity", "train_loss"} & set(found)


def test_a_half_of_a_pair_is_a_chart_all_the_same() -> None:
    """Guards a file without evaluations on the training split."""
    found = quantities(["val_accuracy", "something_else"])
    assert [series.label for series in found["val_accuracy"].series] == ["val"]
    assert found["something_else"].title == "something else"


@given(st.lists(st.text(max_size=60), max_size=20))
def test_any_names_have_charts_that_can_be_printed(names: list[str]) -> None:
    """Guards a hostile file: escape codes and line breaks in the name of a metric."""
    for quantity in quantities(names).values():
        assert quantity.series and inert_pane(quantity.title) == quantity.title and "\n" not in quantity.title


def test_values_in_their_unit() -> None:
    """Guards bytes told in millions, and a learning rate rounded to one digit."""
    found = quantities(_OF_A_RUN)
    assert found["memory_rss"].figure(412 * 2**20) == "412 MiB"
    assert found["memory_rss"].unit_for(5 * 2**30) == ("GiB", 2**30)
    assert found["accuracy"].figure(0.4567) == "45.7%"
    assert found["learning_rate"].figure(0.00125) == "0.00125"
    assert found["learning_rate"].figure(3e-5) == "3e-5"
    assert found[LOSS].figure(float("nan")) == "not finite"
    assert [figure(value) for value in (1.23456, 12.3456, 12345.6, 1e9)] == ["1.2346", "12.35", "12,346", "1.0e+09"]
