"""Laws of the vocabulary: true for every value and every history."""

import functools
import string
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events import job, node, subjects
from events.codec import FACT_TYPES, Fact, Recorded, decode, encode
from events.ids import JobId, NodeId
from events.requests import SubmitJob, derive_job_id, spec_of
from events.state import job as jobs
from events.state import node as nodes
from events.state.job import Ended, JobState
from events.state.node import Node
from tests.vocabulary import event, facts, history, job_facts, recorded, values

JOB_KINDS: tuple[type[Fact], ...] = get_args(job.JobFact)
NODE_KINDS: tuple[type[Fact], ...] = get_args(node.NodeFact)
TOKEN_CHARACTERS = set(string.ascii_letters + string.digits + "_-")
TOKENS = st.text(sorted(TOKEN_CHARACTERS), min_size=1, max_size=64)
JOB_HISTORIES = st.lists(job_facts(JOB_KINDS), max_size=8).map(lambda given: history(*given))
NODE_HISTORIES = st.lists(st.one_of(*map(facts, NODE_KINDS)), max_size=8).map(
    lambda given: history(*given)
)
QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def fold_job(events: Sequence[Recorded], state: JobState = jobs.INITIAL) -> JobState:
    return functools.reduce(jobs.evolve, events, state)


def fold_node(events: Sequence[Recorded], state: Node = nodes.INITIAL) -> Node:
    return functools.reduce(nodes.evolve, events, state)


@pytest.mark.parametrize("kind", FACT_TYPES.values(), ids=FACT_TYPES.keys())
def test_codec_round_trips(kind: type[Fact]) -> None:
    @QUICK
    @given(facts(kind))
    def law(fact: Fact) -> None:
        written = event(fact)
        read = decode(7, written.subject, encode(written))
        assert (read.seq, read.subject, read.time) == (7, written.subject, written.time)
        assert (read.fact, read.type, read.id) == (fact, kind.tag, written.id)

    law()


@given(TOKENS)
def test_a_subject_tells_its_entity(token: str) -> None:
    assert subjects.job_of(subjects.job(JobId(token))) == token
    assert subjects.node_of(subjects.node(NodeId(token))) == token


@given(st.text())
def test_only_tokens_become_subjects(text: str) -> None:
    if 0 < len(text) <= 64 and set(text) <= TOKEN_CHARACTERS:
        assert subjects.job(JobId(text)) == f"ffrtmp.job.{text}"
        return
    with pytest.raises(ValueError, match="is no subject token"):
        subjects.job(JobId(text))


@QUICK
@given(JOB_HISTORIES, JOB_HISTORIES)
def test_folding_a_job_in_two_parts_is_folding_it_whole(
    before: list[Recorded], after: list[Recorded]
) -> None:
    later = [recorded(len(before) + at.seq, at.fact) for at in after]
    assert fold_job(before + later) == fold_job(later, fold_job(before))


@QUICK
@given(NODE_HISTORIES, NODE_HISTORIES)
def test_folding_a_node_in_two_parts_is_folding_it_whole(
    before: list[Recorded], after: list[Recorded]
) -> None:
    later = [recorded(len(before) + at.seq, at.fact) for at in after]
    assert fold_node(before + later) == fold_node(later, fold_node(before))


@QUICK
@given(JOB_HISTORIES)
def test_versions_of_a_job_follow_the_log_and_its_attempts_only_grow(
    events: list[Recorded],
) -> None:
    state: JobState = jobs.INITIAL
    attempt = 0
    for at in events:
        state = jobs.evolve(state, at)
        assert state.version == at.seq
        now = getattr(state, "attempt", 0)
        assert now in {attempt, attempt + 1}
        attempt = now


@QUICK
@given(NODE_HISTORIES)
def test_versions_and_epochs_of_a_node_only_grow(events: list[Recorded]) -> None:
    state = nodes.INITIAL
    for at in events:
        after = nodes.evolve(state, at)
        assert after.version == at.seq
        assert after.epoch >= state.epoch
        state = after


@QUICK
@given(JOB_HISTORIES)
def test_an_ended_job_never_changes_its_status(events: list[Recorded]) -> None:
    state: JobState = jobs.INITIAL
    ended: jobs.JobStatus | None = None
    for at in events:
        state = jobs.evolve(state, at)
        if ended is not None:
            assert jobs.status_of(state) is ended
        if isinstance(state, Ended):
            ended = state.status
            assert ended in jobs.TERMINAL


@QUICK
@given(values(SubmitJob).filter(lambda r: isinstance(r, SubmitJob)), st.text(min_size=1))
def test_a_repeated_request_is_the_same_job(request: SubmitJob, message_id: str) -> None:
    first = derive_job_id(request, message_id=message_id, command_seq=1)
    assert first == derive_job_id(request, message_id=message_id, command_seq=1)
    assert first is not None
    assert subjects.job_of(subjects.job(first)) == first


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True))
def test_different_keys_tenants_and_messages_are_different_jobs(keys: list[str]) -> None:
    requests = [SubmitJob(idempotency_key=key) for key in keys]
    ids = {derive_job_id(request) for request in requests}
    ids |= {derive_job_id(SubmitJob(idempotency_key=key, tenant="other")) for key in keys}
    ids |= {derive_job_id(SubmitJob(), message_id=key) for key in keys}
    ids |= {derive_job_id(SubmitJob(), command_seq=number) for number in range(len(keys))}
    assert len(ids) == 4 * len(keys)


@QUICK
@given(values(SubmitJob))
def test_a_specification_keeps_all_but_the_address_of_its_request(request: SubmitJob) -> None:
    spec = spec_of(request)
    assert type(spec) is not SubmitJob
    assert all(getattr(spec, name) == getattr(request, name) for name in spec.__struct_fields__)
