from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton.engine.core import EngineCore
from lepton.engine.merging import RequestCollector
from lepton.engine.sampling_params import SamplingParams
from lepton.errors import RequestError

GREEDY = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
SLOW_EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_greedy_tokens_are_the_argmax_of_each_history(toy: Any) -> None:
    history = [5, 6, 7]
    for _ in range(20):
        history.append(int(toy.history_logits(history).argmax()))
    output = toy.run_one([5, 6, 7], GREEDY)
    assert output.outputs[0].token_ids == tuple(history[3:])
    assert output.outputs[0].finish_reason == "length"
    assert output.outputs[0].text == toy.PieceTokenizer().decode(history[3:])
    assert (output.usage.prompt_tokens, output.usage.completion_tokens) == (3, 20)


def test_chunked_prompt_gives_the_same_completion(toy: Any) -> None:
    prompt = [2 + index % 20 for index in range(150)]
    whole = toy.run_one(prompt, GREEDY)
    for limit in (1, 7, 16, 64):
        assert toy.run_one(prompt, GREEDY, max_step_tokens=limit, max_sequences=1) == whole


def test_prefill_and_decode_share_a_step(toy: Any) -> None:
    core = EngineCore(toy.make_model(), toy.make_config(max_step_tokens=8, max_sequences=4))
    core.add(core.make_request("a", [3], GREEDY))
    core.step()
    core.add(core.make_request("b", [4] * 30, GREEDY))
    core.step()
    batch = core.executor.batches[-1]
    assert batch.row_starts.tolist() == [0, 1, 8]
    assert batch.positions.tolist() == [1, 0, 1, 2, 3, 4, 5, 6]
    assert batch.logit_rows.tolist() == [0]
    toy.run_all(core)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"temperature": 0}, 1),
        ({"temperature": 0, "top_k": 9}, 1),
        ({"top_k": 5}, 5),
        ({"top_k": 5, "top_p": 0.5, "min_p": 0.1}, 5),
        ({"top_k": 5, "min_tokens": 1, "stop_token_ids": (3, 4), "ignore_eos": True}, 7),
        ({"top_k": 2**40}, 2**31 - 1),
        ({}, 0),
        ({"top_p": 0.5}, 0),
        ({"temperature": 0, "logprobs": 0}, 0),
        ({"temperature": 0, "repetition_penalty": 1.1}, 0),
        ({"temperature": 0, "presence_penalty": 0.1}, 0),
        ({"top_k": 5, "frequency_penalty": 0.1}, 0),
    ],
)
def test_a_step_says_how_many_of_the_best_logits_it_needs(
    toy: Any, options: dict[str, Any], count: int
) -> None:
    core = EngineCore(toy.make_model(), toy.make_config())
    core.add(core.make_request("a", [5, 6], SamplingParams(max_tokens=1, **options)))
    core.add(core.make_request("b", [7], GREEDY))
    core.step()
    assert core.executor.batches[-1].num_best.tolist() == [count, 1]


def test_prompt_logprobs_need_all_logits(toy: Any) -> None:
    core = EngineCore(toy.make_model(), toy.make_config())
    core.add(core.make_request("a", [5, 6, 7], GREEDY, echo_logprobs=True))
    core.step()
    assert core.executor.batches[-1].num_best.tolist() == [0, 0, 0]
    core.step()
    assert core.executor.batches[-1].num_best.tolist() == [1]


def test_eos_ends_and_gives_no_text(toy: Any) -> None:
    params = SamplingParams(seed=3, max_tokens=400, temperature=1.5)
    output = toy.run_one([5], params).outputs[0]
    assert output.finish_reason == "stop"
    assert output.token_ids[-1] == toy.EOS
    assert toy.EOS not in output.token_ids[:-1]
    assert "<eos>" not in output.text


def test_ignore_eos_and_stop_token_ids(toy: Any) -> None:
    free = toy.run_one([5], SamplingParams(seed=3, max_tokens=300, ignore_eos=True)).outputs[0]
    assert free.finish_reason == "length"
    assert toy.EOS in free.token_ids
    chosen = free.token_ids[4]
    params = SamplingParams(seed=3, max_tokens=300, ignore_eos=True, stop_token_ids=(chosen,))
    stopped = toy.run_one([5], params).outputs[0]
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == free.token_ids[: free.token_ids.index(chosen) + 1]


def test_min_tokens_holds_off_eos_and_stop_strings(toy: Any) -> None:
    params = SamplingParams(
        seed=3, max_tokens=60, min_tokens=50, stop=("a", "b"), stop_token_ids=(4,)
    )
    output = toy.run_one([5], params).outputs[0]
    assert len(output.token_ids) >= 50
    assert not {toy.EOS, 4} & set(output.token_ids[:50])
    assert "a" in toy.PieceTokenizer().decode(output.token_ids[:50])
    assert output.text.startswith(toy.PieceTokenizer().decode(output.token_ids[:48])[:-3])


def test_max_tokens_zero_reads_the_prompt_only(toy: Any) -> None:
    output = toy.run_one([5, 6, 7], SamplingParams(max_tokens=0), echo_logprobs=True)
    assert output.outputs[0].token_ids == ()
    assert output.outputs[0].finish_reason == "length"


def test_completion_up_to_the_context_length(toy: Any) -> None:
    core = EngineCore(toy.make_model(64), toy.make_config(num_blocks=4))
    core.add(core.make_request("a", [5] * 10, SamplingParams(ignore_eos=True)))
    output = toy.run_all(core)["a"]
    assert len(output.outputs[0].token_ids) == 54
    assert output.outputs[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("prompt", "params", "param", "code"),
    [
        ([], GREEDY, "prompt", None),
        ([-1], GREEDY, "prompt", None),
        ([10_000], GREEDY, "prompt", None),
        ([5] * 65, GREEDY, "prompt", "context_length_exceeded"),
        ([5] * 64, SamplingParams(), "prompt", "context_length_exceeded"),
        ([5] * 60, SamplingParams(max_tokens=5), "max_tokens", "context_length_exceeded"),
    ],
)
def test_impossible_requests_are_refused(
    toy: Any, prompt: list[int], params: SamplingParams, param: str, code: str | None
) -> None:
    core = EngineCore(toy.make_model(64), toy.make_config())
    with pytest.raises(RequestError) as caught:
        core.make_request("a", prompt, params)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert not core.has_work


def test_logprobs_come_from_the_raw_logits(toy: Any) -> None:
    params = SamplingParams(
        seed=1,
        max_tokens=5,
        logprobs=3,
        temperature=0.5,
        top_k=2,
        frequency_penalty=1.5,
        ignore_eos=True,
    )
    output = toy.run_one([5, 6], params).outputs[0]
    history = [5, 6]
    assert output.logprobs is not None
    assert len(output.logprobs) == len(output.token_ids)
    for token, entry in zip(output.token_ids, output.logprobs, strict=True):
        logits = toy.history_logits(history).astype(np.float64)
        expected = logits - math.log(np.exp(logits).sum())
        assert entry.token_id == token
        assert entry.bytes == toy.PIECES[token]
        assert entry.logprob == pytest.approx(expected[token], abs=1e-5)
        assert [each.token_id for each in entry.top] == np.argsort(-expected)[:3].tolist()
        assert [each.logprob for each in entry.top] == pytest.approx(
            np.sort(expected)[::-1][:3], abs=1e-5
        )
        history.append(token)


def test_the_most_likely_tokens_are_a_sequence_like_any_other(toy: Any) -> None:
    params = SamplingParams(seed=1, max_tokens=1, logprobs=4, ignore_eos=True)
    (entry,) = toy.run_one([5, 6], params).outputs[0].logprobs
    top = entry.top
    assert len(top) == 4
    assert list(top) == [top[0], top[1], top[2], top[-1]]
    assert top[1:3] == (top[1], top[2])
    assert top == tuple(top)
    assert top != tuple(top)[:3]
    assert hash(top) == hash(tuple(top))
    assert repr(top) == repr(tuple(top))
    assert type(copy.deepcopy(top)) is tuple
    assert pickle.loads(pickle.dumps(entry)) == entry
    assert top[0].token == top[0].bytes.decode("utf-8", "replace")
    with pytest.raises(IndexError):
        top[4]


@pytest.mark.parametrize("limit", [4, 512])
def test_prompt_logprobs(toy: Any, limit: int) -> None:
    prompt = [2 + index % 9 for index in range(40)]
    core = EngineCore(toy.make_model(), toy.make_config(max_step_tokens=limit, max_sequences=4))
    params = SamplingParams(max_tokens=3, n=2, seed=1, logprobs=1, ignore_eos=True)
    core.add(core.make_request("a", prompt, params, echo_logprobs=True))
    deltas = []
    while core.has_work:
        deltas += core.step()
    assert [delta.prompt_logprobs is not None for delta in deltas] == [True] + [False] * 5
    entries = deltas[0].prompt_logprobs
    assert entries[0] is None
    assert len(entries) == len(prompt)
    for position, entry in enumerate(entries[1:], start=1):
        logits = toy.history_logits(prompt[:position]).astype(np.float64)
        expected = logits - math.log(np.exp(logits).sum())
        assert entry.token_id == prompt[position]
        assert entry.logprob == pytest.approx(expected[prompt[position]], abs=1e-5)
        assert entry.top[0].token_id == int(expected.argmax())


def test_n_completions_share_the_prompt(toy: Any) -> None:
    prompt = [2 + index % 20 for index in range(100)]
    params = SamplingParams(seed=7, n=4, max_tokens=12, ignore_eos=True)
    core = EngineCore(toy.make_model(), toy.make_config())
    core.add(core.make_request("a", prompt, params))
    output = toy.run_all(core)["a"]
    assert len({each.token_ids for each in output.outputs}) == 4
    assert output.usage.prompt_tokens == 100
    assert output.usage.completion_tokens == 48
    assert core.stats().cached_tokens_total == 3 * 96
    alone = toy.run_one(prompt, SamplingParams(seed=7, max_tokens=12, ignore_eos=True))
    assert output.outputs[0] == alone.outputs[0]


def test_a_failing_step_loses_nothing(toy: Any) -> None:
    core = EngineCore(toy.make_model(), toy.make_config(max_sequences=2))
    for name in "abc":
        core.add(core.make_request(name, [5], GREEDY))
    core.step()
    core.executor.fail_next = RuntimeError("a hiccup")
    core.step()
    core.scheduler.check_integrity()
    outputs = toy.run_all(core)
    alone = toy.run_one([5], GREEDY).outputs[0]
    assert alone.token_ids[2:] == outputs["a"].outputs[0].token_ids
    assert outputs["c"].outputs == (alone,)
    assert core.stats().failed_steps_total == 1


def test_a_request_that_cannot_be_computed_ends_alone(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = EngineCore(toy.make_model(), toy.make_config())
    forward = core.executor.forward

    def fail_on_nines(batch: Any) -> Any:
        if 9 in batch.token_ids[batch.positions == 0]:
            raise RuntimeError("secret detail")
        return forward(batch)

    monkeypatch.setattr(core.executor, "forward", fail_on_nines)
    for name, token in (("a", 5), ("b", 9), ("c", 6)):
        core.add(core.make_request(name, [token], GREEDY))
    outputs = toy.run_all(core)
    assert outputs["b"].outputs[0].finish_reason == "error"
    assert "secret" not in str(outputs["b"].outputs[0].error)
    for name, token in (("a", 5), ("c", 6)):
        assert outputs[name].outputs == toy.run_one([token], GREEDY).outputs
    assert core.pool.num_free == core.pool.num_blocks


def test_not_finite_logits_end_one_request(toy: Any) -> None:
    core = EngineCore(toy.make_model(), toy.make_config())
    spoiled = iter([False, True])

    def spoil(logits: np.ndarray) -> None:
        if next(spoiled, False):
            logits[3] = np.nan

    core.executor.spoil = spoil
    core.add(core.make_request("a", [5], GREEDY))
    core.add(core.make_request("b", [6], GREEDY))
    outputs = toy.run_all(core)
    assert outputs["b"].outputs[0].finish_reason == "error"
    assert "not finite" in str(outputs["b"].outputs[0].error)
    core.executor.spoil = None
    assert outputs["a"].outputs[0].token_ids == toy.run_one([5], GREEDY).outputs[0].token_ids


def test_a_failing_detokenizer_ends_one_request(toy: Any) -> None:
    core = EngineCore(toy.make_model(), toy.make_config())
    core.add(core.make_request("a", [5], GREEDY))
    broken = core.make_request("b", [6], GREEDY)

    def fail(*_: object) -> str:
        raise KeyError("no such piece")

    broken.sequences[0].text._detokenizer.add = fail
    broken.sequences[0].text._detokenizer.flush = fail
    core.add(broken)
    outputs = toy.run_all(core)
    assert outputs["a"].outputs[0].finish_reason == "length"
    assert outputs["b"].outputs[0].finish_reason == "error"


def test_abort_frees_everything_and_keeps_held_text(toy: Any) -> None:
    core = EngineCore(toy.make_model(), toy.make_config())
    params = SamplingParams(n=3, max_tokens=50, ignore_eos=True)
    core.add(core.make_request("a", [5] * 40, params))
    core.step()
    core.step()
    deltas = core.abort("a")
    assert [delta.finish_reason for delta in deltas] == ["cancelled"] * 3
    assert [delta.usage is not None for delta in deltas] == [False, False, True]
    assert core.abort("a") == []
    assert core.stats().used_blocks == 0
    assert not core.has_work


def test_logits_of_a_text_and_of_requests_beside_it(toy: Any) -> None:
    core = EngineCore(toy.make_model(), toy.make_config(num_blocks=6, max_step_tokens=32))
    core.add(core.make_request("a", [5] * 40, GREEDY))
    core.step()
    core.step()
    text = [2 + index % 11 for index in range(90)]
    logits = core.logits(text)
    assert logits.shape == (90, toy.VOCAB_SIZE)
    for position in (0, 31, 32, 89):
        np.testing.assert_array_equal(logits[position], toy.history_logits(text[: position + 1]))
    with pytest.raises(RequestError):
        core.logits([5, 10_000])
    collector_output = toy.run_all(core)["a"].outputs[0]
    assert toy.run_one([5] * 40, GREEDY).outputs[0].text.endswith(collector_output.text)


def test_preempted_sequences_lose_nothing(toy: Any) -> None:
    params = SamplingParams(seed=5, max_tokens=80, ignore_eos=True)
    core = EngineCore(toy.make_model(128), toy.make_config(num_blocks=9))
    for name in "abcd":
        core.add(core.make_request(name, [5, 6, ord(name) - ord("a") + 2], params))
    outputs = toy.run_all(core)
    assert core.stats().preemptions_total > 0
    for name in "abcd":
        alone = toy.run_one([5, 6, ord(name) - ord("a") + 2], params)
        assert outputs[name].outputs == alone.outputs


def test_stats_count(toy: Any) -> None:
    core = EngineCore(toy.make_model(), toy.make_config(num_blocks=64))
    core.add(core.make_request("a", [5] * 20, GREEDY))
    core.step()
    stats = core.stats()
    assert (stats.running, stats.waiting, stats.used_blocks, stats.total_blocks) == (1, 0, 2, 64)
    assert stats.cache_bytes == 64 * 256
    toy.run_all(core)
    stats = core.stats()
    assert (stats.prompt_tokens_total, stats.generation_tokens_total) == (20, 20)
    assert (stats.running, stats.used_blocks, stats.steps) == (0, 0, 20)


tokens = st.lists(st.integers(2, 20), min_size=1, max_size=70)
parameters = st.builds(
    SamplingParams,
    max_tokens=st.integers(0, 40),
    temperature=st.sampled_from([0.0, 0.7, 1.3]),
    top_p=st.sampled_from([1.0, 0.8]),
    top_k=st.sampled_from([0, 5]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    seed=st.integers(0, 5),
    stop=st.sampled_from([(), ("ab",), ("abc", "b"), ("汉",), ("a", "é", "the ")]),
    ignore_eos=st.booleans(),
    logprobs=st.sampled_from([None, 2]),
    n=st.sampled_from([1, 1, 2, 3]),
)
arrivals = st.lists(
    st.tuples(st.integers(0, 12), tokens, parameters, st.booleans(), st.integers(0, 200)),
    min_size=1,
    max_size=8,
)


def visible_text(toy: Any, token_ids: tuple[int, ...], params: SamplingParams) -> str:
    """What a reader should see: everything before the end token or the first stop string."""
    if token_ids and token_ids[-1] == toy.EOS and not params.ignore_eos:
        token_ids = token_ids[:-1]
    text = toy.PieceTokenizer().decode(token_ids)
    for end in range(1, len(text) + 1):
        complete = [stop for stop in params.stop if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


@SLOW_EXAMPLES
@given(
    arrivals=arrivals,
    num_blocks=st.integers(8, 30),
    max_sequences=st.integers(1, 6),
    max_step_tokens=st.integers(6, 80),
)
def test_completions_depend_on_nothing_beside_them(
    toy: Any, arrivals: Any, num_blocks: int, max_sequences: int, max_step_tokens: int
) -> None:
    """Random arrivals, cancellations and preemptions; survivors equal their solo runs."""
    core = EngineCore(
        toy.make_model(128),
        toy.make_config(num_blocks, max_sequences=max_sequences, max_step_tokens=max_step_tokens),
    )
    collectors: dict[str, RequestCollector] = {}
    done: set[str] = set()
    schedule = {
        f"request-{number}": (step, prompt, params, echo, step + lifetime)
        for number, (step, prompt, params, echo, lifetime) in enumerate(arrivals)
    }
    for now in range(5_000):
        deltas = []
        for name, (step, prompt, params, echo, cancel) in schedule.items():
            if step == now:
                request = core.make_request(name, prompt, params, echo_logprobs=echo)
                collectors[name] = RequestCollector(name, request.prompt_token_ids)
                core.add(request)
            if cancel == now:
                deltas += core.abort(name)
        deltas += core.step()
        for delta in deltas:
            assert delta.request_id not in done
            if collectors[delta.request_id].add(delta):
                done.add(delta.request_id)
        core.scheduler.check_integrity()
        if len(done) == len(schedule):
            break
    assert len(done) == len(schedule)
    assert core.pool.num_free == core.pool.num_blocks
    for name, (_, prompt, params, echo, _) in schedule.items():
        output = collectors[name].output()
        alone = toy.run_one(prompt, params, echo_logprobs=echo)
        for mine, other in zip(output.outputs, alone.outputs, strict=True):
            if mine.finish_reason == "cancelled":
                assert other.token_ids[: len(mine.token_ids)] == mine.token_ids
            else:
                assert mine == other
            assert mine.text == visible_text(toy, mine.token_ids, params)


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_without_a_prefix_cache_the_same_blocks_are_used_again(
    toy: Any, prefix_cache: bool
) -> None:
    core = EngineCore(toy.make_model(), toy.make_config(prefix_cache=prefix_cache))
    used: list[set[int]] = []
    for number in range(3):
        core.add(core.make_request(f"{number}", [3 + number] * 40, GREEDY))
        core.step()
        used.append({block for each in core.scheduler.running for block in each.block_table})
        toy.run_all(core)
    assert core.pool.num_cached == (9 if prefix_cache else 0)
    assert (used[0] == used[1] == used[2]) != prefix_cache
