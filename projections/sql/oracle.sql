-- The jobs as one set-wise statement derives them from the audit alone: what the fold in Python is
-- checked against. Exact for every history that deciders write, with whatever losers add to it: an
-- attempt's fact counts until the attempt is over, and no fact counts after the end of the job,
-- unless the job is retried: then it has another life, and its failures are counted from there.
WITH facts AS (
    SELECT
        seq,
        job_no,
        entity AS job_id,
        attempt,
        payload,
        regexp_extract(type, '^job\.(\w+)\.v\d+$', 1) AS fact,
        fact IN (
            'assigned', 'declined', 'started', 'paused', 'resumed',
            'attempt_failed', 'attempt_lost', 'completed'
        ) AS fenced,
        min(seq) FILTER (WHERE fact IN ('declined', 'attempt_failed', 'attempt_lost', 'canceled'))
            OVER (PARTITION BY job_no, attempt) AS attempt_end,
        count(*) FILTER (WHERE fact = 'retried')
            OVER (PARTITION BY job_no ORDER BY seq) AS life,
        bool_or(
            fact = 'submitted' AND (
                payload ->> '$.spec.not_before' IS NOT NULL
                OR json_array_length(payload, '$.spec.depends_on') > 0
            )
        ) OVER (PARTITION BY job_no) AS waits_at_first
    FROM audit
    WHERE job_no IS NOT NULL AND problem IS NULL
),

live_facts AS (
    SELECT
        *,
        min(seq) FILTER (WHERE fact IN ('completed', 'failed', 'canceled', 'rejected'))
            OVER (PARTITION BY job_no, life) AS job_end
    FROM facts
    WHERE NOT fenced OR attempt_end IS NULL OR seq <= attempt_end
),

moves AS (
    SELECT
        *,
        CASE fact
            WHEN 'submitted' THEN if(waits_at_first, 'pending', 'queued')
            WHEN 'retried' THEN if(waits_at_first, 'pending', 'queued')
            WHEN 'declined' THEN 'queued'
            WHEN 'started' THEN 'processing'
            WHEN 'resumed' THEN 'processing'
            WHEN 'attempt_failed' THEN 'pending'
            WHEN 'attempt_lost' THEN 'pending'
            WHEN 'retry_scheduled' THEN 'pending'
            WHEN 'queued' THEN fact
            WHEN 'assigned' THEN fact
            WHEN 'paused' THEN fact
            WHEN 'completed' THEN fact
            WHEN 'failed' THEN fact
            WHEN 'canceled' THEN fact
            WHEN 'rejected' THEN fact
        END AS status
    FROM live_facts
    WHERE job_end IS NULL OR seq <= job_end
),

jobs_derived AS (
    SELECT
        job_no,
        any_value(job_id) AS job_id,
        arg_max(status, seq) AS status,
        arg_max(
            CASE fact
                WHEN 'reprioritized' THEN payload ->> '$.queue'
                WHEN 'submitted' THEN coalesce(payload ->> '$.spec.queue', 'default')
            END, seq
        ) AS queue,
        count(*) FILTER (WHERE fact = 'assigned') AS attempt,
        count(*) FILTER (
            WHERE life = last_life
                AND (
                    fact = 'attempt_failed'
                    OR (fact = 'attempt_lost' AND payload ->> '$.cause' IN ('stalled', 'timed_out'))
                )
        ) AS failures,
        count(*) FILTER (
            WHERE fact = 'attempt_lost'
                AND life = last_life
                AND payload ->> '$.cause' NOT IN ('drained', 'stalled', 'timed_out')
        ) AS crashes
    FROM (SELECT *, max(life) OVER (PARTITION BY job_no) AS last_life FROM moves)
    GROUP BY job_no
)

SELECT
    derived.job_no,
    derived.job_id,
    derived.status,
    coalesce(derived.queue, 'default') AS queue,
    derived.attempt,
    derived.failures,
    derived.crashes,
    latest.last_seq
FROM jobs_derived AS derived
JOIN (SELECT job_no, max(seq) AS last_seq FROM facts GROUP BY job_no) AS latest USING (job_no)
ORDER BY derived.job_no
