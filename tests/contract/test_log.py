import anyio
import pytest

from events import subjects
from events.codec import Unknown
from events.ids import NodeId
from events.telemetry import Heartbeat
from services.errors import Conflict, SequenceGap
from services.log.port import ATOMIC_ENTRIES_MAX, Batch, Entry, EventLog
from tests.contract.conftest import World
from tests.contract.facts import PEN, attempts, entry, everything, job, node

pytestmark = pytest.mark.anyio


@pytest.fixture
def log(world: World) -> EventLog:
    return world.backbone.ledger


def conflicts(outcomes: list[int | Conflict]) -> list[tuple[str, int | None]]:
    return [(each.subject, each.current) for each in outcomes if isinstance(each, Conflict)]


class TestAppend:
    async def test_sequences_start_at_1_and_follow_each_other(self, log: EventLog) -> None:
        assert await log.last_seq() == 0
        assert await log.append([entry("a", 0), entry("b", 0)]) == [1, 2]
        assert await log.append([entry("c")]) == [3]
        assert await log.last_seq() == 3

    async def test_nothing_to_append_is_no_error(self, log: EventLog) -> None:
        assert await log.append([]) == []
        assert await log.last_seq() == 0

    async def test_what_is_read_is_what_was_written(self, log: EventLog) -> None:
        written = entry("a", 0)
        await log.append([written])
        (read,) = await log.read(job("a"))
        assert (read.seq, read.subject, read.id) == (1, written.event.subject, written.event.id)
        assert (read.fact, read.source, read.type, read.time) == (
            written.event.data,
            "test",
            written.event.type,
            written.event.time,
        )

    async def test_a_failed_expectation_tells_the_current_sequence(self, log: EventLog) -> None:
        await log.append([entry("a", 0), entry("b", 0)])
        await log.append([entry("a", None)])
        outcomes = await log.append([entry("a", 0), entry("c", 0), entry("b", 99)])
        assert outcomes[1] == 4
        assert conflicts(outcomes) == [("ffrtmp.job.a", 3), ("ffrtmp.job.b", 2)]
        assert await log.last_seq() == 4

    async def test_the_last_sequence_of_the_entity_is_what_is_expected(self, log: EventLog) -> None:
        await log.append([entry("a", 0), entry("b", 0)])
        assert await log.append([entry("a", 1)]) == [3]
        assert conflicts(await log.append([entry("a", 1)])) == [("ffrtmp.job.a", 3)]

    async def test_an_entry_without_expectation_is_appended_whatever_is_there(
        self, log: EventLog
    ) -> None:
        assert await log.append([entry("a", 0)]) == [1]
        assert await log.append([entry("a", None)]) == [2]

    async def test_several_entries_of_a_subject_keep_their_order(self, log: EventLog) -> None:
        outcomes = await log.append(
            [entry("a", 0, 1), entry("b", 0), entry("a", None, 2), entry("a", None, 3)]
        )
        assert sorted(each for each in outcomes if isinstance(each, int)) == [1, 2, 3, 4]
        assert attempts(await log.read(job("a"))) == [1, 2, 3]

    async def test_unguarded_entries_of_a_subject_keep_their_order(self, log: EventLog) -> None:
        await log.append([entry("a", None, number) for number in range(1, 2_001)])
        assert attempts(await log.read(job("a"))) == list(range(1, 2_001))

    async def test_when_the_first_of_a_subject_conflicts_so_do_the_others(
        self, log: EventLog
    ) -> None:
        await log.append([entry("a", 0)])
        outcomes = await log.append(
            [entry("a", 0), entry("a", None), entry("b", 0), entry("b", None)]
        )
        assert conflicts(outcomes) == [("ffrtmp.job.a", 1), ("ffrtmp.job.a", 1)]
        assert outcomes[2:] == [2, 3]
        assert await log.last_seq() == 3

    async def test_only_the_first_of_a_subject_may_carry_an_expectation(
        self, log: EventLog
    ) -> None:
        with pytest.raises(ValueError, match="only the first entry of a subject"):
            await log.append([entry("a", 0), entry("a", 1)])
        with pytest.raises(ValueError, match="only the first entry of a subject"):
            await log.append_atomic([entry("a", 0), entry("a", 1)])
        assert await log.last_seq() == 0

    async def test_of_50_concurrent_writers_one_wins(self, log: EventLog) -> None:
        outcomes: list[int | Conflict] = []

        async def write(attempt: int) -> None:
            outcomes.extend(await log.append([entry("a", 0, attempt)]))

        async with anyio.create_task_group() as tasks:
            for attempt in range(1, 51):
                tasks.start_soon(write, attempt)
        assert [each for each in outcomes if isinstance(each, int)] == [1]
        assert conflicts(outcomes) == [("ffrtmp.job.a", 1)] * 49
        assert await log.last_seq() == 1

    async def test_an_append_larger_than_any_window_goes_through(self, log: EventLog) -> None:
        count = 10_000
        outcomes = await log.append([entry(f"j{number}", 0) for number in range(count)])
        assert sorted(each for each in outcomes if isinstance(each, int)) == list(
            range(1, count + 1)
        )

    async def test_the_losers_among_many_are_the_only_ones_that_lose(self, log: EventLog) -> None:
        await log.append([entry("j7", 0), entry("j500", 0)])
        outcomes = await log.append([entry(f"j{number}", 0) for number in range(1_000)])
        assert conflicts(outcomes) == [("ffrtmp.job.j7", 1), ("ffrtmp.job.j500", 2)]
        assert [place for place, each in enumerate(outcomes) if isinstance(each, Conflict)] == [
            7,
            500,
        ]
        stored = {recorded.subject: recorded.seq for recorded in await everything(log)}
        assert len(stored) == 1_000
        assert all(
            stored[job(f"j{number}")] == each
            for number, each in enumerate(outcomes)
            if isinstance(each, int)
        )


class TestAppendAtomic:
    async def test_it_returns_the_sequence_of_its_last_entry(self, log: EventLog) -> None:
        assert await log.append_atomic([entry("a", 0), entry("b", 0), entry("a", None)]) == 3

    async def test_one_entry_is_enough(self, log: EventLog) -> None:
        assert await log.append_atomic([entry("a", 0)]) == 1
        with pytest.raises(Conflict) as caught:
            await log.append_atomic([entry("a", 0)])
        assert (caught.value.subject, caught.value.current) == ("ffrtmp.job.a", 1)

    async def test_one_conflict_is_a_conflict_of_all(self, log: EventLog) -> None:
        await log.append([entry("x", 0), entry("b", 0)])
        with pytest.raises(Conflict) as caught:
            await log.append_atomic([entry("a", 0), entry("b", 0), entry("c", 0)])
        assert (caught.value.subject, caught.value.current) == ("ffrtmp.job.b", 2)
        assert await log.last_seq() == 2

    async def test_1000_entries_are_stored_as_one(self, log: EventLog) -> None:
        names = [f"j{number}" for number in range(ATOMIC_ENTRIES_MAX)]
        assert await log.append_atomic([entry(name, 0) for name in names]) == 1_000
        assert [recorded.subject for recorded in await everything(log)] == [
            job(name) for name in names
        ]

    async def test_1000_entries_are_refused_as_one(self, log: EventLog) -> None:
        await log.append([entry("j999", 0)])
        with pytest.raises(Conflict) as caught:
            await log.append_atomic([entry(f"j{number}", 0) for number in range(1_000)])
        assert (caught.value.subject, caught.value.current) == ("ffrtmp.job.j999", 1)
        assert await log.last_seq() == 1

    @pytest.mark.parametrize("count", [0, ATOMIC_ENTRIES_MAX + 1])
    async def test_the_number_of_entries_is_limited(self, log: EventLog, count: int) -> None:
        with pytest.raises(ValueError, match=f"has {count} entries; allowed: 1 to 1000"):
            await log.append_atomic([entry(f"j{number}") for number in range(count)])

    async def test_of_concurrent_ones_that_share_an_entity_one_wins(self, log: EventLog) -> None:
        won: list[int] = []

        async def write(writer: int) -> None:
            try:
                await log.append_atomic([entry(f"own{writer}", 0), entry("shared", 0)])
            except Conflict:
                return
            won.append(writer)

        async with anyio.create_task_group() as tasks:
            for writer in range(20):
                tasks.start_soon(write, writer)
        assert len(won) == 1
        assert [recorded.subject for recorded in await everything(log)] == [
            job(f"own{won[0]}"),
            job("shared"),
        ]


class TestRead:
    async def test_an_entity_without_events_is_empty(self, log: EventLog) -> None:
        await log.append([entry("a")])
        assert await log.read(job("b")) == []

    async def test_only_events_above_after_are_read(self, log: EventLog) -> None:
        await log.append([entry("a", None, 1), entry("b"), entry("a", None, 2)])
        first, second = await log.read(job("a"))
        assert attempts(await log.read(job("a"), after=first.seq)) == [2]
        assert await log.read(job("a"), after=second.seq) == []

    async def test_a_long_life_is_read_whole(self, log: EventLog) -> None:
        numbers = list(range(1, 2_501))
        await log.append([entry("a", None, number) for number in numbers])
        assert attempts(await log.read(job("a"))) == numbers

    async def test_what_was_acknowledged_is_read_at_once(self, log: EventLog) -> None:
        for number in range(1, 21):
            await log.append([entry("a", number - 1, number)])
            assert len(await log.read(job("a"))) == number


class TestFollow:
    async def test_not_live_it_ends_at_what_was_last(self, log: EventLog) -> None:
        assert await everything(log) == []
        await log.append([entry("a"), entry("b"), entry("c")])
        assert [recorded.seq for recorded in await everything(log)] == [1, 2, 3]
        assert [recorded.seq for recorded in await everything(log, after=2)] == [3]
        assert await everything(log, after=3) == []

    async def test_not_live_with_a_filter_that_ends_early_it_ends(self, log: EventLog) -> None:
        await log.append([entry("a"), entry("b"), entry("c")])
        seen: Batch = []
        async with log.follow(after=0, filters=[subjects.only(job("a"))], live=False) as batches:
            async for batch in batches:
                seen += batch
        async with log.follow(after=0, filters=[subjects.ALL_NODES], live=False) as batches:
            async for batch in batches:
                seen += batch
        assert [recorded.seq for recorded in seen] == [1]

    async def test_live_it_goes_on_with_what_comes(self, log: EventLog) -> None:
        await log.append([entry("a")])
        seen: list[int] = []
        with anyio.fail_after(10):
            async with log.follow(after=0) as batches:
                async for batch in batches:
                    assert batch
                    seen += [recorded.seq for recorded in batch]
                    if len(seen) < 10:
                        await log.append([entry("a")])
                    else:
                        break
        assert seen == list(range(1, 11))

    async def test_one_who_lingers_takes_many_at_once_and_misses_none(self, log: EventLog) -> None:
        batches_seen = 0
        seen: list[int] = []

        async def write() -> None:
            for _ in range(100):
                await log.append([entry("a")])
            await log.append([entry("a") for _ in range(2_500)])

        with anyio.fail_after(60):
            async with (
                anyio.create_task_group() as tasks,
                log.follow(after=0, linger_s=0.5) as batches,
            ):
                tasks.start_soon(write)
                async for batch in batches:
                    batches_seen += 1
                    seen += [recorded.seq for recorded in batch]
                    if len(seen) == 2_600:
                        break
        assert seen == list(range(1, 2_601))
        assert batches_seen < 50

    async def test_it_waits_for_the_first_event(self, log: EventLog) -> None:
        seen: Batch = []

        async def watch(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with log.follow(after=0) as batches:
                task_status.started()
                seen.extend(await anext(batches))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                await tasks.start(watch)
                await log.append([entry("a")])
        assert [recorded.seq for recorded in seen] == [1]

    async def test_filters_select_subjects(self, log: EventLog) -> None:
        beat = Heartbeat(epoch=1)
        await log.append(
            [
                entry("a"),
                entry("b"),
                Entry(PEN.write(node("n1"), beat)),
                Entry(PEN.write(node("n2"), beat)),
            ]
        )
        by_subject = {recorded.subject: recorded.seq for recorded in await everything(log)}

        async def seen(*filters: subjects.Filter) -> list[int]:
            async with log.follow(after=0, filters=filters, live=False) as batches:
                return [recorded.seq async for batch in batches for recorded in batch]

        assert await seen(subjects.ALL_JOBS) == [by_subject[job("a")], by_subject[job("b")]]
        assert await seen(subjects.only(node("n2"))) == [by_subject[node("n2")]]
        assert await seen(subjects.only(job("a")), subjects.ALL_NODES) == sorted(
            [by_subject[job("a")], by_subject[node("n1")], by_subject[node("n2")]]
        )
        assert await seen(*subjects.LEDGER) == [1, 2, 3, 4]

    async def test_a_filtered_live_follower_sees_only_its_own(self, log: EventLog) -> None:
        seen: list[int] = []
        with anyio.fail_after(10):
            async with log.follow(after=0, filters=[subjects.only(job("mine"))]) as batches:
                await log.append([entry("other"), entry("mine", None, 1)])
                seen += attempts(await anext(batches))
                await log.append([entry("other"), entry("mine", None, 2)])
                seen += attempts(await anext(batches))
        assert seen == [1, 2]

    async def test_a_position_beyond_the_end_is_a_gap(self, log: EventLog) -> None:
        await log.append([entry("a")])
        with pytest.raises(SequenceGap) as caught:
            async with log.follow(after=5) as batches:
                await anext(batches)
        assert (caught.value.first, caught.value.last) == (2, 5)

    async def test_many_events_come_whole_and_in_order(self, log: EventLog) -> None:
        count = 12_000
        await log.append([entry(f"j{number}", 0) for number in range(count)])
        assert [recorded.seq for recorded in await everything(log)] == list(range(1, count + 1))

    async def test_two_followers_and_a_writer_do_not_disturb_each_other(
        self, log: EventLog
    ) -> None:
        count = 3_000
        seen: list[list[int]] = [[], []]

        async def watch(mine: list[int]) -> None:
            async with log.follow(after=0) as batches:
                async for batch in batches:
                    mine += [recorded.seq for recorded in batch]
                    if len(mine) == count:
                        return

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for mine in seen:
                    tasks.start_soon(watch, mine)
                for start in range(0, count, 100):
                    await log.append([entry(f"j{start + number}", 0) for number in range(100)])
        assert seen == [list(range(1, count + 1))] * 2

    @pytest.mark.parametrize(
        "garbage", [b"", b"\x00\xff", b"[1,2", b'{"id": 5}', "ünïcode".encode(), b"x" * 100_000]
    )
    async def test_garbage_of_strangers_is_unknown_and_stops_nobody(
        self, world: World, log: EventLog, garbage: bytes
    ) -> None:
        await log.append([entry("a", 0)])
        await world.put("ffrtmp.job.a", garbage)
        await log.append([entry("a", 2)])
        for events in (await everything(log), await log.read(job("a"))):
            assert [recorded.seq for recorded in events] == [1, 2, 3]
            fact = events[1].fact
            assert isinstance(fact, Unknown)
            assert fact.body == garbage

    async def test_an_event_of_a_later_version_is_kept_as_unknown(
        self, world: World, log: EventLog
    ) -> None:
        body = (
            b'{"specversion":"1.0","id":"x-1","source":"s","type":"job.dreamt.v9",'
            b'"time":"2026-01-01T00:00:00Z","subject":"ffrtmp.job.a","data":{"of":"sheep"}}'
        )
        await world.put("ffrtmp.job.a", body)
        (recorded,) = await everything(log)
        assert recorded.fact == Unknown(type="job.dreamt.v9", problem="unknown type", body=body)
        assert recorded.id == "x-1"


class TestOtherStreams:
    async def test_telemetry_and_logs_are_logs_of_their_own(self, world: World) -> None:
        subject = subjects.telemetry_of_node(NodeId("n1"))
        beats = [Entry(PEN.write(subject, Heartbeat(epoch=1, free=n))) for n in range(100)]
        assert await world.backbone.telemetry.append(beats) == list(range(1, 101))
        assert await world.backbone.ledger.last_seq() == 0
        assert await world.backbone.logs.last_seq() == 0
        facts = [recorded.fact for recorded in await world.backbone.telemetry.read(subject)]
        assert facts == [beat.event.data for beat in beats]
