"""What the scheduler writes on a node's subject fits into one message, whatever the jobs hold."""

import msgspec

from events.ids import JobId
from events.media import Output
from events.node import Assignment
from events.spec import JobSpec
from services.scheduler.telling import TOLD_BYTES_MAX, parts


def test_assignments_are_told_in_parts_that_the_log_takes() -> None:
    spec = JobSpec(labels={f"k{n}": "x" * 250 for n in range(32)})
    given = [Assignment(job=JobId(f"j{n}"), attempt=1, seq=n + 1, spec=spec) for n in range(100)]
    told = list(parts(given))
    assert [assignment for part in told for assignment in part] == given
    assert len(told) > 1
    assert max(len(msgspec.json.encode(part)) for part in told) <= TOLD_BYTES_MAX + 200
    huge = JobSpec(input="x" * 4096, outputs=tuple(Output(path=f"{n}" * 4000) for n in range(9)))
    assert [
        len(part) for part in parts([Assignment(job=JobId("h"), attempt=1, seq=1, spec=huge)])
    ] == [1]
