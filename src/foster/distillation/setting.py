"""What every distiller works with: log, teacher, trajectory, random streams, and the student that judges."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from foster.condensed.labels import compact_item_map, student_recipe, tunes_last
from foster.condensed.sequences import Condensed
from foster.condensed.sources import student_source
from foster.data.dataset import Dataset
from foster.data.sampling import filled_histories, packed_histories, random_long_histories, shared_walks
from foster.distillation.budget import ORDINARY, Form
from foster.distillation.options import CondenseOptions, LatentOptions
from foster.distillation.synthetic import SyntheticSequences
from foster.engine import Engine
from foster.errors import InputError
from foster.evaluation.evaluate import Evaluator
from foster.evaluation.metrics import ndcg_of_ranks
from foster.models.item_tower import ItemMap
from foster.models.kernels import widened
from foster.models.privacy import Privacy
from foster.models.recommender import TextRecommender
from foster.training.imitation import public_teacher
from foster.training.loop import LogSource, Source, Validate, fit, validation_users, validator
from foster.training.losses import sample_items
from foster.training.options import HARD_LABELS, STUDENT, TrainOptions
from foster.training.trajectory import Checkpoints
from foster.unfinished import State

SUBSET = 512
JUDGES = 20_000  # most validation users that judge a student: states differ by less than the noise of a few thousand


@dataclass(eq=False)
class Setting:
    """What every distiller works with.

    Attributes:
        data: the log.
        best: the teacher's best model.
        trajectory: checkpoints of its training.
        options: those that all distillers share.
        seed: of everything that is drawn.
        engine: device and processes.
        form: in which FOSTER stores sequences.
        privacy: of the teacher, if ``data`` is a log that it generated.
        original: the teacher that ``best`` is a compact copy of, if it is one.
        shown: whether what takes long shows its progress on stderr.
        generator: source of item samples.
        rng: source of all other draws.
        source: real batches; processes share their losses, so that gradients of these have to be averaged.
        features: public features of the items that training may know of, ``[V, width]``, of a large catalogue in half
            precision; V counts these in what follows, and with leave-one-out they are all.
        validate: gives NDCG@10 of a model on validation users.
    """

    data: Dataset
    best: TextRecommender
    trajectory: Checkpoints
    options: CondenseOptions
    seed: int
    engine: Engine
    form: Form = ORDINARY
    privacy: Privacy | None = None
    original: TextRecommender | None = None
    shown: bool = False
    generator: torch.Generator = field(init=False)
    rng: np.random.Generator = field(init=False)
    source: LogSource = field(init=False)
    features: Tensor = field(init=False)
    validate: Validate = field(init=False)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        self.rng = np.random.default_rng(self.seed)
        real = TrainOptions(batch_size=self.options.batch_size)
        self.source = LogSource(self.data, real, self.best.options.max_length, self.seed, self.engine)
        self.features = self.best.public_features(self.best.encoder)[: self.best.n_known]
        self.validate = validator(self.data, STUDENT.eval_users, self.engine)

    def state(self) -> State:
        """Return what the next draws depend on."""
        draws = dict(self.rng.bit_generator.state)
        return {"generator": self.generator.get_state(), "draws": draws, "source": self.source.state()}

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        self.generator.set_state(state["generator"])
        self.rng.bit_generator.state = state["draws"]
        self.source.load_state(state["source"])

    @cached_property
    def wide_features(self) -> Tensor:
        """The features in single precision, for methods that compute with all of them at once."""
        return widened(self.features)

    @cached_property
    def labeller(self) -> TextRecommender:
        """The model whose predictions are soft labels: the teacher, or one of public texts that does what it does."""
        with torch.enable_grad():  # it is asked for where sequences are exported
            return public_teacher(self.best, self.data, seed=self.seed, engine=self.engine, progress=self.shown)

    @cached_property
    def item_map(self) -> ItemMap:
        """The map of a compact teacher that written histories have with them."""
        return compact_item_map(self.best)

    @property
    def subset_size(self) -> int:
        """N, the items that a step encodes."""
        assert isinstance(self.options, LatentOptions)
        asked, items = self.options.subset, self.best.n_known
        return min(SUBSET, items) if asked is None else asked or items

    def subset(self) -> Tensor:
        """Draw N items uniformly, ``[N]``."""
        return sample_items(self.best.n_known, self.subset_size, self.generator).to(self.engine.device)

    def item_table(self) -> Tensor:
        """Return the teacher's vectors of the items that training may know of, ``[V, d]``."""
        return self.best.item_table()[: self.best.n_known]

    def real_histories(self) -> Tensor:
        """Draw long real histories to start from, ``[M, L]``."""
        histories, length = self.data.histories("train"), self.options.length
        rows = random_long_histories(histories, self.options.sequences, length, self.rng)
        return torch.from_numpy(filled_histories(histories, rows, length)).to(self.engine.device)

    def packed_histories(self, part: int) -> Tensor:
        """Draw pieces of at most ``part`` items of real histories, one after another, to start from, ``[M, L]``."""
        options = self.options
        histories = self.data.histories("train")
        items = packed_histories(histories, options.sequences, options.length, part, self.rng)
        return torch.from_numpy(items).to(self.engine.device)

    def shared_walks(self, part: int, least: int) -> Tensor:
        """Draw walks of at most ``part`` items along transitions of ``least`` users or more, ``[M, L]``.

        Raises:
            InputError: no item has so many users.
        """
        options, histories = self.options, self.data.histories("train")
        try:
            items = shared_walks(histories, options.sequences, options.length, part, least, self.rng)
        except ValueError as error:
            raise InputError(f"--anonymity {least}: {error} to train on; give less") from error
        return torch.from_numpy(items).to(self.engine.device)

    def latents(self, options: LatentOptions, start: Tensor | None = None) -> SyntheticSequences:
        """Return latent sequences that start as the items ``start``, by default long real histories."""
        keys = self.features if options.keys == "text" else self.item_table()
        items = self.real_histories() if start is None else start
        return SyntheticSequences(keys, items, options.temperature).to(self.engine.device)

    def condensed(self, items: Tensor, weights: Tensor, derived: str) -> Condensed:
        """Wrap steps ``[M, L, k]``, each the label of the one before, as what ``distill`` returns.

        Args:
            items: the most probable items of each step.
            weights: their probabilities.
            derived: what of it came from real data, for the card.
        """
        options, catalogue = self.options, self.best.catalogue
        derived += catalogue.disclosure
        if isinstance(options, LatentOptions) and options.keys == "learned":
            derived += "; latents were moved among the teacher's item vectors (keys learned)"
        return Condensed(
            kind="distilled",
            method=options.method,
            items=items.cpu(),
            weights=weights.cpu(),
            codes=None,
            adapter=None,
            catalogue=catalogue,
            encoder=self.best.encoder,
            model=self.best.options,
            recipe=HARD_LABELS.model_copy(update={"steps": min(HARD_LABELS.total_steps, options.student_steps)}),
            info={
                **self.data.info.origin,
                "options": options.model_dump(),
                "seed": self.seed,
                "from_real_data": derived,
                "licence": self.data.info.terms,
                **({} if self.privacy is None else {"privacy": self.privacy.model_dump()}),
            },
        )

    def student(self, sequences: Condensed) -> tuple[TextRecommender, Source, TrainOptions, Validate | None]:
        """Return an untrained student of the sequences, its losses, its recipe, and what validates it, if anything.

        One that would tune its language model last is judged before it does.
        """
        shape = sequences.model
        if tunes_last(sequences, shape):
            shape = shape.model_copy(update={"finetune": "frozen"})
        # Without labels nobody has to make them: that model may have to be trained.
        model = self.labeller if sequences.labelled else self.best
        student = model.fresh(self.seed, shape)
        recipe = student_recipe(sequences, student.encoder, student.options)
        source = student_source(sequences, student, self.seed, mixup=recipe.mixup)
        if not sequences.labelled:
            return student, source, recipe, self.validate if recipe.patience else None
        return student, source, recipe.model_copy(update={"steps": max(recipe.total_steps // 2, 1)}), None

    def student_ndcg(self, sequences: Condensed, progress: str | None = None) -> np.ndarray:
        """Train a short student on the sequences and return its NDCG@10 of each judging validation user, ``[users]``.

        With soft labels that takes half of the steps of the recipe. Without these, and without a map to start from, a
        student over-fits within some dozens of steps, so that the best of its states counts, as it does when users
        validate.

        Args:
            sequences: what it trains on.
            progress: what its training is called on stderr, if progress is shown at all; None for no bar.

        Raises:
            InputError: the student diverged.
        """
        bar = progress if self.shown else None
        student, source, recipe, validate = self.student(sequences)
        try:
            fit(student, source, recipe, seed=self.seed, engine=self.engine.alone(), validate=validate, progress=bar)
        except InputError as error:
            # Their recipe is not the user's to choose here.
            raise InputError(f"a student of the sequences cannot learn ({error}): is the teacher sound?") from error
        return ndcg_of_ranks(self._judges.ranks(student))

    @cached_property
    def _judges(self) -> Evaluator:
        return Evaluator(self.data, "validation", users=validation_users(self.data, JUDGES), engine=self.engine)
