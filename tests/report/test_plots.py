"""Plots of a benchmark."""

from __future__ import annotations

import importlib.util

import pytest

from bench_records import ranks, records_of
from foster.bench.summary import summarise
from foster.report.plots import plot_results


@pytest.mark.parametrize("budgets", [(20,), (20, 60)])
def test_plots_show_every_row(tmp_path, budgets, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure").Figure
    shown = []
    monkeypatch.setattr(figure, "savefig", lambda self, path, **rest: (shown.append(self), path.write_bytes(b"")))
    rows = summarise(records_of(budgets), ranks)
    assert plot_results(tmp_path / "toy.png", rows, "toy") == tmp_path / "toy.png"
    first, second = shown[0].axes
    for axes, metric in ((first, "ndcg@10"), (second, "recall@10")):
        if len(budgets) > 1:
            drawn = {container.get_label(): list(container[0].get_ydata()) for container in axes.containers}
            expected = {name: [rows[f"{name}-{budget}"][metric] for budget in budgets] for name in ("random", "foster")}
            assert drawn == expected
        else:
            names = [label.get_text() for label in axes.get_yticklabels()]
            drawn = dict(zip(names, axes.containers[0][0].get_xdata(), strict=True))
            assert drawn == {name: row[metric] for name, row in rows.items()}


def test_without_matplotlib_there_is_no_plot(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert plot_results(tmp_path / "toy.png", summarise(records_of(), ranks), "toy") is None
    assert not list(tmp_path.iterdir())
