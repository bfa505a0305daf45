-- The questions that people ask most, by name. A parameter that is NULL does not restrict.

-- name: jobs_matching -- The one definition of a filter of jobs; lists come as JSON.
FROM jobs
WHERE ($states::VARCHAR IS NULL OR list_contains(from_json($states, '["VARCHAR"]'), status))
    AND ($queue::VARCHAR IS NULL OR queue = $queue)
    AND ($priority::VARCHAR IS NULL OR priority = $priority)
    AND ($tenant::VARCHAR IS NULL OR tenant = $tenant)
    AND ($node::VARCHAR IS NULL OR node = $node)
    AND ($failure::VARCHAR IS NULL OR failure_class = $failure)
    AND ($poison::BOOLEAN IS NULL OR poison = $poison)
    AND ($id_glob::VARCHAR IS NULL OR job_id GLOB $id_glob)
    AND ($since::TIMESTAMPTZ IS NULL OR submitted_at >= $since)
    AND ($until::TIMESTAMPTZ IS NULL OR submitted_at < $until)
    AND (
        $labels::VARCHAR IS NULL
        OR list_has_all(
            map_entries(labels), from_json($labels, '[{"key": "VARCHAR", "value": "VARCHAR"}]')
        )
    );

-- name: jobs -- Jobs that a filter takes, the newest first, from a job number on downward.
FROM jobs_matching
WHERE ($before::BIGINT IS NULL OR job_no < $before)
ORDER BY job_no DESC
LIMIT $limit::BIGINT;

-- name: job_ids -- Ids of the jobs that a filter takes, as `jobs`.
SELECT job_no, job_id, status
FROM jobs_matching
WHERE ($before::BIGINT IS NULL OR job_no < $before)
ORDER BY job_no DESC
LIMIT $limit::BIGINT;

-- name: jobs_counted -- How many jobs a filter takes, by status.
SELECT status, count(*) AS jobs
FROM jobs_matching
GROUP BY status
ORDER BY jobs DESC, status;

-- name: failures_grouped -- Why have the jobs that a filter takes failed? Numbers count as one.
SELECT
    coalesce(failure_class, '') AS failure_class,
    poison,
    regexp_replace(coalesce(failure_reason, ''), '\b[0-9]+\b', '#', 'g') AS reason,
    count(*) AS jobs,
    max(ended_at) AS last_at,
    arg_max(job_id, job_no) AS example
FROM jobs_matching
GROUP BY ALL
ORDER BY jobs DESC, last_at DESC
LIMIT $limit::BIGINT;

-- name: jobs_like -- The job with this id or number, or else at most two whose ids begin with it.
FROM jobs
WHERE starts_with(job_id, $reference) OR job_no = try_cast($reference AS BIGINT)
ORDER BY job_id = $reference DESC, job_no = try_cast($reference AS BIGINT) DESC NULLS LAST, job_no
LIMIT 2;

-- name: attempts -- All attempts of one job.
FROM attempts
WHERE job_no = $job_no::BIGINT
ORDER BY attempt;

-- name: timeline -- All facts of one job, in their order.
FROM audit
WHERE seq BETWEEN $first_seq::BIGINT AND $last_seq::BIGINT AND job_no = $first_seq::BIGINT
ORDER BY seq;

-- name: nodes -- All nodes that are still part of the fleet.
FROM nodes
WHERE status <> 'removed'
ORDER BY node_id;

-- name: node -- One node.
FROM nodes
WHERE node_id = $node_id::VARCHAR;

-- name: queue_depth -- Jobs that are not over, by queue and status.
FROM queue_depth
ORDER BY queue, status;

-- name: waits -- How long jobs assigned since an instant had waited for a node, by queue.
SELECT
    queue,
    count(*) AS jobs,
    quantile_cont(wait_s, 0.5) AS p50_s,
    quantile_cont(wait_s, 0.95) AS p95_s,
    quantile_cont(wait_s, 0.99) AS p99_s
FROM jobs
WHERE assigned_at >= coalesce($since::TIMESTAMPTZ, '-infinity'::TIMESTAMPTZ)
GROUP BY queue
ORDER BY queue;

-- name: fact_counts -- What is in the ledger?
SELECT type, count(*) AS events, min(seq) AS first_seq, max(seq) AS last_seq
FROM audit
GROUP BY type
ORDER BY events DESC, type;

-- name: decisions -- Why did each job run where it ran, and how long did it wait?
FROM assignments
ORDER BY seq
LIMIT $limit::BIGINT;

-- name: failures -- What was refused or failed, and why?
SELECT job_no, job_id, status, node, failure_class, failure_reason, ended_at
FROM jobs
WHERE status IN ('failed', 'rejected')
ORDER BY job_no
LIMIT $limit::BIGINT;
