"""Which sequences run, and which of their tokens the next step computes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from itertools import islice

from lepton.engine.block_pool import BlockPool, blocks_for
from lepton.engine.fairness import TenantShares
from lepton.engine.sequence import Sequence
from lepton.engine.step_pacer import StepPacer
from lepton.engine.step_plan import StepPlan
from lepton.engine.unadmitted import Unadmitted
from lepton.engine.waiting import WaitingQueue
from lepton.models.executors.base import BLOCK_SIZE

_LOOK_AHEAD = 32
"""Waiting sequences looked at while those before them wait for blocks that others compute."""
NO_DRAFTS: Mapping[Sequence, SequenceOf[int]] = {}


class Scheduler:
    """Continuous batching: every step continues all completions and reads some prompts beside them.

    A sequence is admitted when blocks for all its tokens are free, those apart that the cache has,
    and takes one more whenever it fills its last. When none is left, the last of the running ones
    is preempted, in the order of priority and arrival: it gives its blocks back, keeps its tokens,
    and finds in the cache what has not been needed meanwhile. The first can always go on, because
    no sequence may outgrow the pool. Mutated by the step loop only.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_sequences: int,
        max_step_tokens: int,
        max_logit_rows: int,
        pacer: StepPacer,
    ) -> None:
        self.pool = pool
        self.running: list[Sequence] = []
        """In the order of priority and arrival."""
        self.shares = TenantShares()
        self.waiting = WaitingQueue(self.shares)
        self.unadmitted = Unadmitted()
        """Requests none of whose sequences has run yet."""
        self.num_admitted = 0
        """Requests that were admitted, since the scheduler was made."""
        self.num_preemptions = 0
        self.num_cached_tokens = 0
        self.num_looked_up_tokens = 0
        self._restore_seconds = 0.0
        """Time that the last step spent on copying blocks from the spill."""
        self._store_seconds_before = 0.0
        """Time that went into copying blocks to the spill before the last step."""
        self._max_sequences = max_sequences
        self._max_step_tokens = max_step_tokens
        self._max_logit_rows = max_logit_rows
        self._pacer = pacer
        self._arrivals = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self._arrivals += 1
        sequence.arrival = self._arrivals
        self.shares.arrive(sequence.request.options.tenant)
        if sequence.index == 0:
            self.unadmitted.add(sequence.request.options)
        self.waiting.add(sequence)

    def remove(self, sequence: Sequence, *, keep: bool = True) -> None:
        """Forget a sequence and free its blocks; unless ``keep``, nobody may find them again."""
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        elif sequence in self.running:
            self.running.remove(sequence)
        else:
            return
        if not keep:
            self.pool.forget(sequence.block_table)
            sequence.num_computed = 0
        self._release(sequence)
        self.shares.leave(sequence.request.options.tenant)
        request = sequence.request
        if request.scheduled is None and sequence is request.sequences[-1]:
            self.unadmitted.remove(request.options)

    def continue_counts(self, other: Scheduler) -> None:
        """Count on from where another scheduler stopped."""
        self.num_admitted = other.num_admitted
        self.num_preemptions = other.num_preemptions
        self.num_cached_tokens = other.num_cached_tokens
        self.num_looked_up_tokens = other.num_looked_up_tokens

    def preempt_all(self) -> None:
        """Give all blocks back; every sequence will be computed again."""
        while self.running:
            self._preempt(self.running[-1])

    def publish(self, sequence: Sequence) -> None:
        """Let others find the blocks that a sequence has filled."""
        filled = sequence.num_computed // BLOCK_SIZE
        if filled > sequence.num_published:
            hashes = sequence.block_hashes(filled)
            for index in range(sequence.num_published, filled):
                self.pool.publish(sequence.block_table[index], hashes[index])
            sequence.num_published = filled

    def schedule(self, drafts: Mapping[Sequence, SequenceOf[int]] = NO_DRAFTS) -> StepPlan:
        """The chunks of the next step; none when nothing can or need be computed.

        ``drafts`` holds guesses at the tokens that follow those of running sequences; they are
        verified where room is to be had without taking it from anyone.
        """
        self._restore_seconds = 0.0
        self._store_seconds_before = self.pool.store_seconds
        self._make_way()
        step = StepPlan(self._max_step_tokens, self._max_logit_rows, self._pacer, self._crowd())
        for sequence in list(self.running):
            if sequence.num_pending == 1 and sequence in self.running and self._extend(sequence):
                step.decode(sequence, self._fitting(sequence, drafts.get(sequence, ()), step))
        self._read_prompts(step)
        for chunk in step.chunks:
            generated = int(chunk.samples)
            tenant = chunk.sequence.request.options.tenant
            self.shares.charge(tenant, chunk.count - generated, generated)
        return step

    def check_integrity(self) -> None:
        """Raise AssertionError when an invariant is broken; used by tests."""
        self.pool.check_integrity(sequence.block_table for sequence in self.running)
        turns = [_turn(sequence) for sequence in self.running]
        if turns != sorted(turns):
            raise AssertionError(f"running sequences are out of order: {turns}")
        waiting = list(self.waiting)
        for sequence in waiting:
            if sequence.block_table or sequence.num_computed or sequence.num_published:
                raise AssertionError(f"waiting sequence {sequence.arrival} holds blocks")
        for sequence in self.running:
            if sequence.num_computed > len(sequence.block_table) * BLOCK_SIZE:
                raise AssertionError(f"sequence {sequence.arrival} has outgrown its blocks")
            if sequence.num_computed >= len(sequence.token_ids):
                raise AssertionError(f"sequence {sequence.arrival} has nothing left to compute")
            if sequence.num_published > sequence.num_computed // BLOCK_SIZE:
                raise AssertionError(f"sequence {sequence.arrival} published unfinished blocks")
        unadmitted = {each.request for each in waiting if each.request.scheduled is None}
        if len(self.unadmitted) != len(unadmitted):
            raise AssertionError(
                f"{len(unadmitted)} requests have not been admitted, not {len(self.unadmitted)}"
            )
        if not waiting and not self.running and self.shares.num_present:
            raise AssertionError("tenants without sequences are counted as present")

    def _crowd(self) -> float:
        """How many prompts that are being read or could begin now there are for each stream.

        Of the tenant for whom these are the fewest, and no less urgent than its streams: nobody's
        prompts lengthen the gaps of others' streams.
        """
        streams: dict[str, list[int]] = {}
        prompts: list[Sequence] = []
        for sequence in self.running:
            options = sequence.request.options
            if sequence.num_pending == 1:
                streams.setdefault(options.tenant, []).append(options.priority)
            elif not sequence.restoring:
                prompts.append(sequence)
        if not streams:
            return 0.0
        places, free = self._max_sequences - len(self.running), self.pool.num_free
        free -= len(self.running)
        for sequence in islice(self.waiting, places):
            free -= blocks_for(len(sequence.token_ids)) + 1
            if free < 0:
                break
            prompts.append(sequence)
        numbers = dict.fromkeys(streams, 0)
        for sequence in prompts:
            options = sequence.request.options
            own = streams.get(options.tenant)
            if own is not None and options.priority <= min(own):
                numbers[options.tenant] += 1
        return min(numbers[tenant] / len(streams[tenant]) for tenant in streams)

    def _read_prompts(self, step: StepPlan) -> None:
        """Continue the prompts that are being read, and begin others.

        Half of what a step can read is kept for the first; the rest goes to those nearest to their
        end and to new ones, so that no long prompt holds up short ones, nor they it.
        """
        for sequence in self.running:
            if sequence.restoring:
                self._restore(sequence)
        reading = [
            sequence
            for sequence in self.running
            if sequence.num_pending > 1 and not sequence.restoring
        ]
        if reading:
            step.reserve(reading[0])
        for sequence in sorted(reading[1:], key=lambda each: (_turn(each)[0], each.num_pending)):
            step.prefill(sequence)
        while not step.full and (admitted := self._admit()) is not None:
            if not admitted.restoring:
                step.prefill(admitted)
        if reading:
            step.use_reserve(reading[0])

    def _fitting(
        self, sequence: Sequence, draft: SequenceOf[int], step: StepPlan
    ) -> SequenceOf[int]:
        """As much of a draft as rows and free blocks allow; takes the blocks."""
        others = len(self.running)
        room = min(step.tokens, step.logit_rows) - others
        draft = draft[: max(0, room)]
        while draft:
            end = len(sequence.token_ids) + len(draft)
            missing = blocks_for(end) - len(sequence.block_table)
            if missing <= max(0, self.pool.num_free - others):
                sequence.block_table += self.pool.allocate(max(0, missing))
                return draft
            draft = draft[: len(draft) - (end - 1) % BLOCK_SIZE - 1]
        return ()

    def _extend(self, sequence: Sequence) -> bool:
        """Get the block the next token needs; False when the sequence itself had to yield."""
        missing = blocks_for(len(sequence.token_ids)) - len(sequence.block_table)
        if missing <= 0:
            return True
        while self.pool.num_free < missing:
            last = self.running[-1]
            self._preempt(last)
            if last is sequence:
                return False
        sequence.block_table += self.pool.allocate(missing)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        self.waiting.add(sequence)
        self.num_preemptions += 1
        sequence.request.num_preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        self.publish(sequence)
        self.pool.release(sequence.block_table)
        sequence.block_table = []
        sequence.num_computed = 0
        sequence.num_published = 0
        sequence.restoring = False

    def _admit(self) -> Sequence | None:
        """Move the first waiting sequence whose time has come to the running ones, if it fits."""
        if not self.waiting or len(self.running) >= self._max_sequences:
            return None
        if self.running and self._store_seconds > self._spill_limit:
            return None  # The next step has time again for what has to leave the cache.
        for sequence in islice(self.waiting, _LOOK_AHEAD):
            found = self._find(sequence)
            if found is not None:
                if self._lacking(sequence, found) > 0:
                    return None
                self._start(sequence, found)
                return sequence
        return None

    def _find(self, sequence: Sequence) -> list[int] | None:
        """The cached blocks a sequence begins with; None: it has to wait for another.

        Another may be computing the next block right now, or the log probabilities of the prompt,
        which are in the first delta of their request.
        """
        first = sequence.request.sequences[0]
        if first is not sequence and first.wants_prompt_logprobs:
            return None
        hashes = sequence.block_hashes(sequence.num_reusable_tokens // BLOCK_SIZE)
        found = self.pool.find(hashes)
        if len(found) == len(hashes):
            return found
        wanted, place = hashes[len(found)], len(found)
        for other in self.running:
            full = other.num_prompt_tokens // BLOCK_SIZE
            if other.num_pending > 1 and full > place and other.block_hashes(full)[place] == wanted:
                return None
        return found

    def _lacking(self, sequence: Sequence, found: SequenceOf[int]) -> int:
        """How many free blocks are missing for a sequence that begins with blocks ``found``."""
        fresh = blocks_for(len(sequence.token_ids)) - len(found)
        spare = len(self.running)  # A block of growth for each, or they would soon be preempted.
        return fresh + spare + self.pool.num_unreferenced(found) - self.pool.num_free

    def _start(self, sequence: Sequence, found: list[int]) -> None:
        self.waiting.remove(sequence)
        self.running.append(sequence)
        self.running.sort(key=_turn)
        self.pool.share(found)
        fresh = blocks_for(len(sequence.token_ids)) - len(found)
        sequence.block_table = [*found, *self.pool.allocate(fresh)]
        sequence.num_computed = len(found) * BLOCK_SIZE
        sequence.num_published = len(found)
        self._restore(sequence)
        if sequence.request.scheduled is None:
            sequence.request.scheduled = time.monotonic()
            self.unadmitted.remove(sequence.request.options)
            self.num_admitted += 1

    def _restore(self, sequence: Sequence) -> None:
        """Copy blocks back that follow those a sequence has and had to leave the cache.

        Beside other sequences a step begins no copy when they have taken half of it; the next step
        goes on, and the sequence computes nothing before the last of them is back.
        """
        sequence.restoring = not self._restore_blocks(sequence)
        if not sequence.restoring and not sequence.admitted:
            sequence.admitted = True  # After a preemption it finds its own blocks again.
            sequence.num_cached_tokens = sequence.num_computed
            self.num_looked_up_tokens += len(sequence.token_ids)
            self.num_cached_tokens += sequence.num_computed

    def _restore_blocks(self, sequence: Sequence) -> bool:
        """Whether everything that the spill has of a sequence's next blocks is back."""
        spill, known = self.pool.spill, sequence.num_published
        if spill is None:
            return True
        hashes = sequence.block_hashes(sequence.num_reusable_tokens // BLOCK_SIZE)
        while known < len(hashes) and hashes[known] in spill:
            if len(self.running) > 1 and self.spill_seconds > self._spill_limit:
                return False
            started = time.perf_counter()
            found = spill.load(hashes[known], sequence.block_table[known])
            self._restore_seconds += time.perf_counter() - started
            if not found:
                break
            self.pool.publish(sequence.block_table[known], hashes[known])
            known += 1
            sequence.num_computed, sequence.num_published = known * BLOCK_SIZE, known
        return True

    @property
    def spill_seconds(self) -> float:
        """Time that the last step has spent on copying blocks to and from the spill."""
        return self._restore_seconds + self._store_seconds

    @property
    def _store_seconds(self) -> float:
        return self.pool.store_seconds - self._store_seconds_before

    @property
    def _spill_limit(self) -> float:
        """Seconds that a step beside completions may spend on the spill."""
        return self._pacer.target_seconds / 2

    def _make_way(self) -> None:
        """Preempt for the first waiting sequence, if it is entitled to the place of others.

        It is to sequences of a less urgent priority, and to those of tenants who have more than
        their share of the places while its own has less.
        """
        if not self.waiting or not self.running:
            return
        sequence = next(iter(self.waiting))
        found = self._find(sequence)
        if found is None:
            return
        full = len(self.running) >= self._max_sequences
        lacking = self._lacking(sequence, found)
        if not full and lacking <= 0:
            return
        victims = []
        for victim in self._displaceable(sequence):
            victims.append(victim)
            # What a victim leaves, and the block of growth that it no longer needs.
            lacking -= self.pool.num_exclusive(victim.block_table) + 1
            full = False
            if lacking <= 0:
                break
        if full or lacking > 0:
            return
        for victim in victims:
            self._preempt(victim)
        # Blocks that victims shared with the sequence were counted as freed and are not.
        if self._lacking(sequence, found) <= 0:
            self._start(sequence, found)

    def _displaceable(self, sequence: Sequence) -> list[Sequence]:
        """The running sequences that have to yield to a waiting one, the first to go first."""
        options = sequence.request.options
        places: dict[str, int] = {}
        for running in self.running:
            tenant = running.request.options.tenant
            places[tenant] = places.get(tenant, 0) + 1
        share = max(1.0, self._max_sequences / max(1, self.shares.num_present))
        entitled = places.get(options.tenant, 0) + 1 <= share
        displaceable = []
        for running in reversed(self.running):
            other = running.request.options
            if other.priority > options.priority:
                displaceable.append(running)
            elif entitled and other.priority == options.priority and places[other.tenant] > share:
                places[other.tenant] -= 1
                displaceable.append(running)
        return displaceable


def _turn(sequence: Sequence) -> tuple[int, int]:
    """Where a sequence stands among the running ones: the last is preempted first."""
    return sequence.request.options.priority, sequence.arrival
