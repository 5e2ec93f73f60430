"""Results as a run would leave them, with round numbers."""

from __future__ import annotations

import pytest
from bench.results import EngineNote, Failure, Results, Sample
from bench.roofline import MachineLimits
from bench.shape import ModelShape


@pytest.fixture
def shape() -> ModelShape:
    """A model of 100 MB, all of it read at each step."""
    return ModelShape(
        name="tiny",
        file_bytes=100_000_000,
        weight_bytes=100_000_000,
        parameters=150_000_000,
        head_parameters=50_000_000,
        float_weights=False,
        attention_width=512,
        cache_values=256,
        windows=(0, 0, 128),
    )


@pytest.fixture
def limits() -> MachineLimits:
    return MachineLimits(2, 20e9, "vpdpbusd (256 bits)", 500e9, "vfmadd (256 bits)", 200e9)


@pytest.fixture
def results(shape, limits) -> Results:
    """Two formats of one family, three engines, three rounds; one peer could not be had."""
    speeds = {
        ("decode", "lepton exact"): (99.0, 100.0, 150.0),
        ("decode", "lepton fast"): (120.0, 120.0, 120.0),
        ("decode", "llama.cpp"): (50.0, 45.0, 55.0),
        ("decode", "lepton fast, 1 thread"): (60.0, 60.0, 60.0),
        ("prefill-512", "lepton exact"): (400.0, 400.0, 400.0),
        ("prefill-512", "lepton fast"): (600.0, 600.0, 600.0),
        ("prefill-512", "llama.cpp"): (200.0, 200.0, 200.0),
        ("load", "lepton exact"): (0.5, 0.5, 0.5),
        ("memory", "llama.cpp"): (150e6, 150e6, 150e6),
    }
    found = Results(
        machine={
            "processor": "Example 1",
            "instruction_set": "avx512",
            "threads": 2,
            "system": "Linux 6",
            "date": "2026-01-01",
        },
        limits=[limits],
        engines={"llama.cpp": EngineNote("llama.cpp", "1.2", "the better of -fa on and off", 2)},
        shapes={"smollm2-q4_1": shape, "smollm2-q4_0": shape},
        failures=[Failure("openvino", "pip | failed")],
    )
    for model, factor in (("smollm2-q4_1", 1.0), ("smollm2-q4_0", 1.5)):
        for (workload, engine), values in speeds.items():
            faster = factor if engine == "llama.cpp" else 1.0
            for number, value in enumerate(values, 1):
                found.samples.append(Sample(model, workload, engine, number, value * faster))
    return found
