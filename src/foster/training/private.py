"""Training with user-level differential privacy: DP-SGD over users (Abadi et al., CCS 2016; McMahan et al., ICLR 2018).

Each step takes every user with the same probability, independently. The gradient of a user's own loss over the whole
window of the history is clipped as one vector; Gaussian noise is added to the sum. The accountant is Opacus'. Its
``GradSampleModule`` takes the first dimension of every layer for the samples. Here it is the steps of all users, and
layers of the item tower see items, so that gradients are torch.func's.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.metadata import version
from typing import NoReturn, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from foster.data.batches import pad
from foster.data.dataset import Dataset
from foster.data.histories import Histories
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.models.privacy import Privacy
from foster.models.recommender import TextRecommender
from foster.training.losses import sample_items
from foster.training.options import PrivacyOptions, TrainOptions, batch_size_of
from foster.unfinished import State

CLIP = 0.1
"""Below the norms of nearly all users' gradients, so that it need not be chosen: Adam takes away the scale."""

RECIPE = TrainOptions(steps=150, lr=1e-2, candidates=256, patience=0, precision="float32")
SHAPE = ModelOptions(dim=64, layers=1, adapter="linear", dropout=0.0)
"""Of what is not given in a private training."""

MOST_USERS = 1024  # a step expects by default, or a sixteenth of all where that is less
COUNT_SHARE = 0.01  # of epsilon, spent on the number of users
ORDERS = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64)) + [64, 96, 128, 192, 256, 512]
"""Of Renyi divergence; beyond Opacus' own those that small epsilons need."""

CHUNK = 128  # users whose gradients are there at once


def private_shape(given: ModelOptions | None) -> ModelOptions:
    """Return the shape of a private model: what is given, and ``SHAPE``.

    Raises:
        InputError: a part that counts items, or draws at random for several users together.
    """
    given = given or SHAPE
    shape = SHAPE.model_copy(update={name: getattr(given, name) for name in given.model_fields_set})
    reasons = {
        "--ids": (shape.ids, "vectors of items' own say which items are in the log"),
        f"--dropout {shape.dropout:g}": (shape.dropout > 0, "noise there is enough"),
        f"--adapter {shape.adapter}": (shape.adapter != "linear", "experts draw noise for all users together"),
        f"--finetune {shape.finetune}": (shape.finetune != "frozen", "a language model has too many weights for it"),
        f"--backbone {shape.backbone}": (shape.backbone == "gru4rec", "has no gradients of single users"),
    }
    for flag, (wrong, reason) in reasons.items():
        if wrong:
            raise InputError(f"{flag}: cannot be trained with --epsilon ({reason}); leave it out")
    return shape


def private_recipe(given: TrainOptions | None) -> TrainOptions:
    """Return the recipe of a private training: what is given, and ``RECIPE``.

    Raises:
        InputError: weights that are chosen by validation, or half precision.
    """
    given = given or RECIPE
    recipe = RECIPE.model_copy(update={name: getattr(given, name) for name in given.model_fields_set})
    if recipe.patience:
        raise InputError(
            f"--patience {recipe.patience}: with --epsilon the last weights are taken, since validation users would "
            "choose others; leave it out"
        )
    if recipe.precision == "bfloat16":
        raise InputError("--precision bfloat16: gradients are clipped in float32 with --epsilon; leave it out")
    return recipe.model_copy(update={"precision": "float32", "candidates": max(recipe.candidates, 2)})


def check_private(data: Dataset, processes: int) -> int:
    """See that what leaves a log is covered, and return how many users there are to learn from.

    Raises:
        InputError: it is not, a row of the log is no user, or there are several processes.
    """
    info = data.info
    if info.cut_times:
        raise InputError(
            f"--epsilon: {info.name} is split by time, and the order of its items tells which of them users met first; "
            "prepare it with --split leave-one-out"
        )
    if info.popularity:
        raise InputError(
            f"--epsilon: {info.name} has popularity beside its texts, which no noise covers; prepare it without "
            "--popularity"
        )
    user = "" if info.reading is None else info.reading.user
    if any(word in user.lower() for word in ("session", "order", "basket", "visit_id")):
        raise InputError(
            f"--epsilon: the users of {info.name} are values of '{user}', of which a person may have many; prepare it "
            "with the column of persons as --user-column"
        )
    if processes > 1:
        raise InputError(f"--epsilon: works in one process, and {processes} were started; start one")
    return len(data.need_training_histories())


def plan(options: PrivacyOptions, recipe: TrainOptions, n_users: int, rng: np.random.Generator) -> Privacy:
    """Return what a budget pays for: sampling rate and noise of a training.

    The number of users, which the sampling rate follows from, enters with Laplace noise, for a hundredth of epsilon.

    Args:
        options: the budget; with an epsilon.
        recipe: steps and batch size.
        n_users: with something to learn from.
        rng: secret.

    Raises:
        InputError: Opacus is missing, delta is too large, or epsilon too small.
    """
    assert options.epsilon is not None
    if options.delta * n_users >= 1:
        raise InputError(
            f"--delta {options.delta:g}: must be less than one divided by the {n_users} users, or to show one user "
            f"whole would count as private; give {0.1 / n_users:.0e} or less"
        )
    try:
        from opacus.accountants import RDPAccountant
        from opacus.accountants.utils import get_noise_multiplier
    except ImportError as error:
        raise InputError("--epsilon: needs the package opacus; run: pip install 'foster[private]'") from error
    of_count = COUNT_SHARE * options.epsilon
    users = max(round(n_users + rng.laplace(scale=1 / of_count)), 1)
    expected = min(batch_size_of(recipe, users, MOST_USERS), users)
    rate, steps = expected / users, recipe.total_steps
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Optimal order")  # of noise that the search only passes by
            noise = get_noise_multiplier(
                target_epsilon=options.epsilon - of_count,
                target_delta=options.delta,
                sample_rate=rate,
                steps=steps,
                accountant="rdp",
                alphas=ORDERS,
            )
            accountant = RDPAccountant()
            accountant.history = [(noise, rate, steps)]
            spent = accountant.get_epsilon(options.delta, alphas=ORDERS)
    except ValueError as error:
        raise InputError(
            f"--epsilon {options.epsilon:g}: no noise is enough for {steps} steps at a sampling rate of {rate:.3g}; "
            "give a larger --epsilon, fewer --steps or a smaller --batch-size"
        ) from error
    return Privacy(
        epsilon=float(of_count + spent),
        delta=options.delta,
        noise_multiplier=float(noise),
        clip=CLIP,
        sampling_rate=rate,
        steps=steps,
        expected_users=expected,
        accountant=f"Renyi accountant of opacus {version('opacus')}",
    )


class PrivateLog:
    """Losses whose gradients are those of DP-SGD over the users of a log.

    Args:
        data: the log.
        max_length: longest history; of a longer one a step takes a window at random.
        sampling_rate: with which a user takes part in a step.
        expected_users: a step, which sums are divided by.
        clip: largest norm of a user's gradient.
        noise_multiplier: of the noise, in units of ``clip``.
        seed: of the sampled items, which are drawn uniformly and may be known.
        rng: of users, windows and noise; secret.
    """

    def __init__(
        self,
        data: Dataset,
        max_length: int,
        *,
        sampling_rate: float,
        expected_users: float,
        clip: float,
        noise_multiplier: float,
        seed: int,
        rng: np.random.Generator,
    ) -> None:
        self.histories: Histories = data.training_histories()
        self.max_length: int = max_length
        self.sampling_rate: float = sampling_rate
        self.expected_users: float = expected_users
        self.clip: float = clip
        self.noise_multiplier: float = noise_multiplier
        self.rng: np.random.Generator = rng
        self.generator: torch.Generator = torch.Generator().manual_seed(seed * 1009)

    @classmethod
    def of(cls, data: Dataset, max_length: int, privacy: Privacy, seed: int, rng: np.random.Generator) -> Self:
        """Return the losses of a plan; arguments are those of the class."""
        return cls(
            data,
            max_length,
            sampling_rate=privacy.sampling_rate,
            expected_users=privacy.expected_users,
            clip=privacy.clip,
            noise_multiplier=privacy.noise_multiplier,
            seed=seed,
            rng=rng,
        )

    def loss(self, model: TextRecommender, candidates: int) -> Tensor:
        """Return a number whose gradient is the noised mean of clipped gradients; it says nothing beyond that."""
        chosen = self.rng.random(len(self.histories)) < self.sampling_rate
        items = pad(self._windows(self.histories[chosen]), self.max_length + 1).to(model.device)
        sample = sample_items(model.n_known, candidates, self.generator).to(model.device)
        gradient = self.noised(clipped_sum(model, items, sample, self.clip))
        weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        # The loop of training wants a loss: this one has the gradient.
        return torch.stack([(weight * gradient[name]).sum() for name, weight in weights.items()]).sum()

    def noised(self, total: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a sum of clipped gradients with noise, divided by the number of users that is expected."""
        scale, out = self.noise_multiplier * self.clip, {}
        for name, tensor in total.items():
            noise = torch.from_numpy(self.rng.standard_normal(tensor.shape)).to(tensor)
            out[name] = (tensor + scale * noise) / self.expected_users
        return out

    def state(self) -> State:
        """Refuse: the state of the noise is to be nowhere."""
        raise _kept_nowhere()

    def load_state(self, state: State) -> NoReturn:
        """Refuse, as ``state``."""
        raise _kept_nowhere()

    def _windows(self, histories: Histories) -> Histories:
        length = self.max_length + 1  # the last item is a target only
        spare = np.maximum(histories.lengths - length, 0)
        starts = histories.starts + self.rng.integers(spare + 1)
        return Histories(histories.items, starts, np.minimum(starts + length, histories.ends))


def _kept_nowhere() -> AssertionError:
    return AssertionError("a private training cannot be gone on with: its noise is kept nowhere")


class _UserLoss(nn.Module):
    """The loss of one user, as ``next_item_loss`` of a batch that has no other."""

    def __init__(self, model: TextRecommender) -> None:
        super().__init__()
        self.model: TextRecommender = model

    def forward(self, items: Tensor, sample: Tensor) -> Tensor:
        """Return the mean over the steps of a history ``[length]``, padded with -1, among items ``[n]``."""
        model, adapter = self.model, self.model.tower.linear
        assert adapter is not None  # see private_shape
        real, filled = items[1:] >= 0, items.clamp(min=0)
        vectors = model.tower(filled)
        states = model.queries(model.backbone(vectors[None, :-1])[0])
        # <h, W f + b> is <W'h, f> + <h, b>: a user has few states, and the features of the sample are the same for all.
        scores = (states @ adapter.weight) @ model.tower.features(sample).T + (states @ adapter.bias)[:, None]
        following = filled[1:]
        if len(sample) == model.n_known:
            losses = F.cross_entropy(scores, following, reduction="none")
        else:
            others = scores.masked_fill(sample == following[:, None], -torch.inf).logsumexp(1)
            rest = others + float(np.log(model.n_known / len(sample)))
            losses = F.softplus(rest - (states * vectors[1:]).sum(1))
        return (losses * real).sum() / real.sum()


def user_gradients(model: TextRecommender, items: Tensor, sample: Tensor) -> dict[str, Tensor]:
    """Return the gradient of each user's own loss by the name of the weight, ``[users, ...]``.

    Args:
        model: a linear adapter on frozen features.
        items: ``[users, length]`` histories, padded on the right with -1.
        sample: ``[n]`` distinct items, two or more, for the softmax.
    """
    loss = _UserLoss(model)
    trained = {name: weight.detach() for name, weight in loss.named_parameters() if weight.requires_grad}

    def of_user(weights: dict[str, Tensor], history: Tensor) -> Tensor:
        out: Tensor = functional_call(loss, weights, (history, sample))
        return out

    # A fused kernel of attention would be called user after user.
    with sdpa_kernel(SDPBackend.MATH):
        found = vmap(grad(of_user), in_dims=(None, 0))(trained, items)
    return {name.removeprefix("model."): gradient for name, gradient in found.items()}


def clipped_sum(model: TextRecommender, items: Tensor, sample: Tensor, clip: float) -> dict[str, Tensor]:
    """Return the sum of users' gradients, each scaled down to a norm of ``clip`` at most; see ``user_gradients``.

    A gradient that is not finite counts as none, as it would for a user who is not there.
    """
    total = {name: torch.zeros_like(weight) for name, weight in model.named_parameters() if weight.requires_grad}
    lengths = (items >= 0).sum(1)
    order = lengths.argsort(stable=True)  # similar lengths together: little is computed on padding
    for rows in order.split(CHUNK):
        if not len(rows):  # nobody was drawn
            continue
        found = user_gradients(model, items[rows, : int(lengths[rows].max())], sample)
        norms = torch.stack([part.flatten(1).norm(dim=1) for part in found.values()]).norm(dim=0)
        factors = torch.where(norms.isfinite(), clip / norms.clamp(min=clip), 0.0)
        for name, part in found.items():
            flat = part.flatten(1).masked_fill(~norms.isfinite()[:, None], 0.0)
            total[name] += (factors @ flat).view_as(total[name])
    return total
