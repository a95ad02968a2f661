import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu

from foster.audit.membership import attack_results, clopper_pearson, likelihood_ratios, random_halves


def scores_of(effect, shadows=8, users=600, seed=0):
    rng = np.random.default_rng(seed)
    members = random_halves(users, shadows, seed)
    return rng.normal(size=users) * 5 + rng.normal(size=members.shape) + effect * members, members


def test_halves_are_halves_apart_from_one_another():
    members = random_halves(401, 50, 3)
    assert (members.sum(1) == 200).all()
    agree = (members[0] == members[1:]).mean(1)
    assert 0.45 < agree.mean() < 0.55 and agree.std() > 0.005


@pytest.mark.parametrize("seed", range(3))
def test_without_a_difference_the_attack_guesses(seed):
    ratios, members = (lambda s, m: (likelihood_ratios(s, m), m))(*scores_of(0.0, seed=seed))
    found = attack_results(ratios, members)
    assert abs(found["auc"] - 0.5) < 0.03
    assert found["auc_interval"][0] < 0.5 < found["auc_interval"][1]
    assert found["tpr@0.01"] < 0.025


def test_users_are_compared_with_themselves():
    """Users differ by much more than membership does, which a threshold for all does not see through."""
    scores, members = scores_of(2.0)
    found, plain = attack_results(likelihood_ratios(scores, members), members), attack_results(scores, members)
    # Two normal distributions two deviations apart have 0.921; means of some four others cost some of it.
    assert 0.83 < found["auc"] < 0.921 and plain["auc"] < 0.65
    assert found["tpr@0.01"] > 5 * plain["tpr@0.01"]


def test_a_user_who_is_always_a_member_is_judged_too():
    scores, members = scores_of(3.0, shadows=3, users=200)
    assert (members[1:].all(0) | ~members[1:].any(0)).any()
    ratios = likelihood_ratios(scores, members)
    assert np.isfinite(ratios).all() and attack_results(ratios, members)["auc"] > 0.8


def test_equal_scores_say_nothing():
    members = random_halves(100, 4, 0)
    ratios = likelihood_ratios(np.full(members.shape, 7.0), members)
    # All that ratios differ by is how often a user was a member of the others, which is drawn apart.
    assert abs(attack_results(ratios, members)["auc"] - 0.5) < 0.1


def test_areas_and_rates_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    members = rng.random((3, 400)) < 0.5
    ratios = np.round(rng.normal(size=members.shape) + members, 1)  # with ties
    found = attack_results(ratios, members)
    inside, outside = ratios[members], ratios[~members]
    assert found["auc"] == pytest.approx(mannwhitneyu(inside, outside).statistic / len(inside) / len(outside))
    for rate in (0.001, 0.01):
        allowed = [t for t in np.unique(ratios) if (outside >= t).mean() <= rate]
        assert found[f"tpr@{rate:g}"] == pytest.approx(max(((inside >= t).mean() for t in allowed), default=0))
        low, high = found[f"tpr@{rate:g}_interval"]
        assert low <= found[f"tpr@{rate:g}"] <= high


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (1, 30), (15, 30), (30, 30), (7, 2000)])
def test_exact_intervals(hits, n):
    wanted = binomtest(hits, n).proportion_ci(0.95, "exact")
    assert clopper_pearson(hits, n) == pytest.approx((wanted.low, wanted.high), abs=1e-6)
