"""New embeddings for rare labels from a small class-conditional generative adversarial network.

A conditional GAN (Mirza and Osindero 2014, arXiv 1411.1784) with the hinge loss and a projection
discriminator (Miyato and Koyama 2018, arXiv 1802.05637), in the space of sentence embeddings: what
it makes trains a linear head, and cannot be read. It learns what embeddings differ in from the mean
of their label, which a few rows tell well enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton.data.augmentation import Gain
from lepton.data.scoring import score_embeddings
from lepton.errors import DataError
from lepton.extras import import_extra

_NOISE = 32
_HIDDEN = 128
_BATCH = 64
_CRITIC_STEPS = 2

Embedded = tuple[NDArray[np.float32], Sequence[str]]
"""Embeddings [rows, width] and their labels."""


class EmbeddingGan:
    """Learns how embeddings of each label are spread, and draws new ones; needs torch.

    Args:
        steps: of the generator.
        learning_rate: of both Adam optimizers.
        seed: the same seed gives the same embeddings.
    """

    def __init__(self, *, steps: int = 500, learning_rate: float = 2e-4, seed: int = 0) -> None:
        self._steps = steps
        self._learning_rate = learning_rate
        self._seed = seed
        self._labels: dict[str, int] = {}
        self._generator: Any = None
        self._means: Any = None
        self._scale: Any = None

    def fit(
        self,
        embeddings: NDArray[np.float32],
        labels: Sequence[str],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> EmbeddingGan:
        """Train on embeddings [rows, width] of the training part.

        Raises:
            DataError: fewer than 10 rows, rows and labels differ in number, or no torch.
        """
        if len(embeddings) != len(labels) or len(labels) < 10:
            raise DataError(f"{len(embeddings)} embeddings with {len(labels)} labels: too few")
        torch = import_extra("torch", "train")
        threads = torch.get_num_threads()
        # Matrices this small take longer to hand out than to multiply.
        torch.set_num_threads(1)
        try:
            self._train(torch, embeddings, labels, progress or (lambda *_: None))
        finally:
            torch.set_num_threads(threads)
        return self

    def sample(self, label: str, count: int, *, seed: int = 0) -> NDArray[np.float32]:
        """``count`` new embeddings [count, width] of ``label``.

        Raises:
            DataError: nothing was fitted yet, or the label is unknown.
        """
        if self._generator is None or label not in self._labels:
            raise DataError(f"label {label!r} was not in what the generator was fitted on")
        torch = import_extra("torch", "train")
        ids = torch.full((count,), self._labels[label])
        with torch.no_grad():
            made = self._draw(torch, ids, torch.Generator().manual_seed(seed))
        result: NDArray[np.float32] = (made * self._scale + self._means[ids]).numpy()
        return result

    def measure_gain(
        self,
        train: Embedded,
        dev: Embedded,
        wanted: Mapping[str, int],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Embedded, Gain]:
        """Fit, draw, and score dev by a linear model trained without and with what was drawn.

        Args:
            train: embeddings [rows, width] of the training part and their labels.
            dev: the same of the dev part, which is scored only.
            wanted: new embeddings by label, see ``wanted_rows``.
            progress: called after every step with its number, and how many there are.

        Returns:
            The new embeddings with their labels, and the scores before and after.

        Raises:
            DataError: as ``fit``, ``sample`` and ``score_embeddings``.
        """
        self.fit(*train, progress=progress)
        drawn = [self.sample(label, count, seed=self._seed) for label, count in wanted.items()]
        labels = [label for label, count in wanted.items() for _ in range(count)]
        rows = np.concatenate([train[0][:0], *drawn])
        before = score_embeddings(*train, *dev)
        after = score_embeddings(np.concatenate([train[0], rows]), [*train[1], *labels], *dev)
        return (rows, labels), Gain(before, after, len(labels))

    def _train(
        self,
        torch: Any,
        embeddings: NDArray[np.float32],
        labels: Sequence[str],
        progress: Callable[[int, int], None],
    ) -> None:
        generator_seed = torch.Generator().manual_seed(self._seed)
        self._labels = {label: index for index, label in enumerate(sorted(set(labels)))}
        ids = torch.tensor([self._labels[label] for label in labels])
        real = torch.from_numpy(np.ascontiguousarray(embeddings, np.float32))
        rows_of_label = torch.bincount(ids)
        self._means = torch.zeros(len(self._labels), real.shape[1]).index_add_(0, ids, real)
        self._means /= rows_of_label[:, None]
        real = real - self._means[ids]
        self._scale = real.std(0) + 1e-4
        real = real / self._scale
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            self._generator = _generator(torch, len(self._labels), real.shape[1])
            critic = _Critic(torch, len(self._labels), real.shape[1])
        makers = torch.optim.Adam(
            self._generator.parameters(), self._learning_rate, betas=(0.5, 0.9)
        )
        critics = torch.optim.Adam(critic.parameters(), self._learning_rate, betas=(0.5, 0.9))
        # Labels are drawn evenly, so that the rare ones are learnt as well as the others.
        weights = 1.0 / rows_of_label[ids]
        for step in range(self._steps):
            for _ in range(_CRITIC_STEPS):
                rows = torch.multinomial(weights, _BATCH, True, generator=generator_seed)
                made = self._draw(torch, ids[rows], generator_seed).detach()
                loss = (1 - critic(real[rows], ids[rows])).relu().mean()
                loss = loss + (1 + critic(made, ids[rows])).relu().mean()
                critics.zero_grad()
                loss.backward()
                critics.step()
            rows = torch.multinomial(weights, _BATCH, True, generator=generator_seed)
            loss = -critic(self._draw(torch, ids[rows], generator_seed), ids[rows]).mean()
            makers.zero_grad()
            loss.backward()
            makers.step()
            progress(step + 1, self._steps)

    def _draw(self, torch: Any, ids: Any, generator: Any) -> Any:
        noise = torch.randn(len(ids), _NOISE, generator=generator)
        one_hot = torch.nn.functional.one_hot(ids, len(self._labels)).float()
        return self._generator(torch.cat([noise, one_hot], 1))


def _generator(torch: Any, labels: int, width: int) -> Any:
    """From noise and a one-hot label to an embedding [n, width], of unit variance to begin with."""
    layers = [
        torch.nn.Linear(_NOISE + labels, _HIDDEN),
        torch.nn.Linear(_HIDDEN, _HIDDEN),
        torch.nn.Linear(_HIDDEN, width),
    ]
    for layer in layers:
        torch.nn.init.kaiming_normal_(layer.weight, a=0.2)
    return torch.nn.Sequential(
        layers[0], torch.nn.LeakyReLU(0.2), layers[1], torch.nn.LeakyReLU(0.2), layers[2]
    )


class _Critic:
    """Scores an embedding [n, width] as one of its label [n]: higher is more real."""

    def __init__(self, torch: Any, labels: int, width: int) -> None:
        norm = torch.nn.utils.parametrizations.spectral_norm
        self._body = torch.nn.Sequential(
            norm(torch.nn.Linear(width, _HIDDEN)),
            torch.nn.LeakyReLU(0.2),
            norm(torch.nn.Linear(_HIDDEN, _HIDDEN)),
            torch.nn.LeakyReLU(0.2),
        )
        self._plain = norm(torch.nn.Linear(_HIDDEN, 1))
        self._by_label = norm(torch.nn.Embedding(labels, _HIDDEN))

    def parameters(self) -> list[Any]:
        return [
            *self._body.parameters(),
            *self._plain.parameters(),
            *self._by_label.parameters(),
        ]

    def __call__(self, embeddings: Any, ids: Any) -> Any:
        hidden = self._body(embeddings)
        return self._plain(hidden)[:, 0] + (self._by_label(ids) * hidden).sum(1)
