from __future__ import annotations

import numpy as np
import pytest
import torch

from lepton.training.config import ARCHITECTURES, Method, TrainingConfig
from lepton.training.networks.numpy_executor import run
from lepton.training.networks.stages import build
from lepton.training.networks.tokens import padded
from lepton.training.networks.torch_executor import TorchNetwork

CONFIG = TrainingConfig(width=16, heads=4, feed_forward=24, max_tokens=12)


@pytest.mark.parametrize("method", ARCHITECTURES)
def test_numpy_runs_what_torch_trained(method: Method) -> None:
    torch.manual_seed(0)
    network = build(method, CONFIG, vocabulary=30, outputs=3)
    module = TorchNetwork(network, dropout=0.3).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape)
    generator = np.random.default_rng(1)
    rows = [generator.integers(0, 30, length).tolist() for length in (12, 1, 5, 0, 7)]
    ids, lengths = padded(rows)
    weights = module.exported()
    assert {name: value.shape for name, value in weights.items()} == network.shapes
    found = run(network, weights, ids, lengths)
    with torch.no_grad():
        expected = module(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    # A text's scores are the same alone.
    for index, row in enumerate(rows):
        alone = run(network, weights, *padded([row]))
        np.testing.assert_allclose(alone[0], found[index], atol=2e-5)


@pytest.mark.parametrize("method", ARCHITECTURES)
def test_parameters_can_be_taken_back(method: Method) -> None:
    network = build(method, CONFIG, vocabulary=30, outputs=2)
    first, second = TorchNetwork(network, 0.0), TorchNetwork(network, 0.0)
    second.load(first.exported())
    ids, lengths = padded([[1, 2, 3], [4]])
    with torch.no_grad():
        scores = [
            m.eval()(torch.from_numpy(ids), torch.from_numpy(lengths)) for m in (first, second)
        ]
    torch.testing.assert_close(*scores)
